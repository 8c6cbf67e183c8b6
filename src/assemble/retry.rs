use super::BuildError;
use crate::base::BaseError;
use crate::layer::LayerError;
use crate::store::StoreError;
use crate::ui::Ui;

/// One removed entry may uncover the next, so a few times; each time one entry fewer is bad.
const ATTEMPTS: u32 = 16;

/// The store removes what does not match its name; the next attempt makes it again. So it does
/// when another process was the one that removed it.
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
