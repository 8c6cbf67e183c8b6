use serde::Serialize;

use super::Plan;

/// What a workflow's `strategy.matrix` takes: one job for each platform.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    include: Vec<MatrixJob>,
}

#[derive(Clone, Debug, Serialize)]
struct MatrixJob {
    platform: String,
    /// The platform as a job name or a file name may hold it.
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
