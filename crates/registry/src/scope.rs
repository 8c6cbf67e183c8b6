//! What a token allows.

use oci::Repository;

/// What a token is asked for: to work in one repository, and to read from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    path: String,
    actions: &'static str,
    /// Paths of repositories that blobs are mounted from.
    sources: Vec<String>,
}

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Self { path: repository.path().to_owned(), actions: "pull", sources: Vec::new() }
    }

    pub(super) fn push(repository: &Repository, sources: &[String]) -> Self {
        let (path, sources) = (repository.path().to_owned(), sources.to_vec());
        Self { path, actions: "pull,push", sources }
    }

    /// `repository:etcd:pull,push`
    pub(super) fn texts(&self) -> impl Iterator<Item = String> + '_ {
        let own = format!("repository:{}:{}", self.path, self.actions);
        let others = self.sources.iter().map(|path| format!("repository:{path}:pull"));
        std::iter::once(own).chain(others)
    }
}
