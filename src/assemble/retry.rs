//! Repeats a build that met a corrupted entry of the cache.

use super::BuildError;
use crate::base::BaseError;
use crate::layer::LayerError;
use crate::store::StoreError;
use crate::ui::Ui;

/// Each attempt may find another corrupted entry, and removes it.
const ATTEMPTS: u32 = 16;

/// Repeats `attempt` while it finds corrupted entries. The store removes such an entry, so that the
/// next attempt makes it again. The entry may also be missing because another process removed it.
pub(super) fn after_corruption<T>(
    ui: &Ui,
    mut attempt: impl FnMut() -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        match &result {
            Err(error) if is_corruption(error) => ui.warning(format!("{error}; making it again")),
            _ => break,
        }
        result = attempt();
    }
    result
}

fn is_corruption(error: &BuildError) -> bool {
    let (BuildError::Store(store)
    | BuildError::Layer(LayerError::Store(store))
    | BuildError::Base(BaseError::Store(store))) = error
    else {
        return false;
    };
    matches!(store, StoreError::Corrupt { .. } | StoreError::Missing(_))
}
