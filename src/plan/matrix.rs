//! The plan as jobs of a GitHub workflow.

use serde::Serialize;

use super::Plan;

/// The value of `strategy.matrix` in a GitHub workflow: one job for each platform.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    include: Vec<MatrixJob>,
}

#[derive(Clone, Debug, Serialize)]
struct MatrixJob {
    platform: String,
    /// The platform in a form for job names and file names.
    name: String,
    tag: String,
}

pub fn matrix(plan: &Plan) -> Matrix {
    let job = |image: &super::ImagePlan| MatrixJob {
        platform: image.platform.to_string(),
        name: image.platform.dashed(),
        tag: plan.tag.clone(),
    };
    Matrix { include: plan.images.iter().map(job).collect() }
}
