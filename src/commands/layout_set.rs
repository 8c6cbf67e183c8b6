//! Layouts that are pushed as one image, and where to get the layers that they lack.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::documents::{DocumentError, DocumentTree};
use crate::failure::{Failure, Kind};
use crate::layout::{Layout, LayoutError, Tagged};
use crate::push::PushPlan;
use oci::Repository;

/// A layout, and the image of it that is to be pushed.
pub(super) struct TaggedLayout {
    pub(super) layout: Layout,
    pub(super) tagged: Tagged,
}

/// Layouts with the same image, for different platforms.
pub(super) struct LayoutSet {
    all: Vec<TaggedLayout>,
    /// Layers that a sparse layout lacks, and the repositories of the bases that they are from.
    left_out: BTreeMap<Digest, Repository>,
    /// One index with everything that the layouts contain.
    pub(super) tree: DocumentTree,
}

impl LayoutSet {
    /// The layouts must contain the same image, and each platform once.
    pub(super) fn new(all: Vec<TaggedLayout>) -> Result<Self, Failure> {
        let read = |it: &TaggedLayout| DocumentTree::read_entry(&it.layout, &it.tagged.entry);
        let trees: Vec<_> = all.iter().map(read).collect::<Result<_, _>>()?;
        let tags: Vec<_> = all.iter().map(|it| &it.tagged.tag).collect();
        if let Some(other) = tags.iter().find(|tag| **tag != tags[0]) {
            let text = format!("the layouts contain different images: {} and {other}", tags[0]);
            return Err(Failure::new(Kind::Other, text));
        }
        let tree = DocumentTree::join(trees)?;
        let mut layouts = Self { all, left_out: BTreeMap::new(), tree };
        layouts.left_out = layouts.missing_base_layers();
        Ok(layouts)
    }

    fn missing_base_layers(&self) -> BTreeMap<Digest, Repository> {
        let bases = self.tree.images.iter().filter_map(|image| image.base.as_ref());
        let missing = bases.flat_map(|base| {
            let missing = base.layers.iter().filter(|digest| !self.path(digest).is_file());
            missing.map(|digest| (*digest, base.repository.clone()))
        });
        missing.collect()
    }

    /// Fails if a blob is missing here and was not left out, before anything is pushed.
    pub(super) fn check(&self, plan: &PushPlan) -> Result<(), Failure> {
        for blob in plan.all_blobs().filter(|blob| !self.left_out.contains_key(&blob.digest)) {
            let known = fs::metadata(self.path(&blob.digest));
            if !known.is_ok_and(|known| known.len() == blob.size) {
                return Err(DocumentError::MissingBlob(blob.digest).into());
            }
        }
        Ok(())
    }

    /// The layers that the layouts lack, and where each can be pulled.
    pub(super) fn left_out(&self) -> &BTreeMap<Digest, Repository> {
        &self.left_out
    }

    pub(super) fn tag(&self) -> Option<&str> {
        self.all.first().map(|it| it.tagged.tag.as_str())
    }

    /// What refers to a document of the plan, and to those in turn: signatures and the like, which
    /// a layout names without a tag.
    pub(super) fn referrers(&self, plan: &PushPlan) -> Result<Vec<DocumentTree>, Failure> {
        let documents = plan.manifests.iter().chain(&plan.root);
        let mut subjects: Vec<_> = documents.map(|manifest| manifest.digest).collect();
        let mut open = Vec::new();
        for TaggedLayout { layout, .. } in &self.all {
            for entry in layout.untagged()? {
                open.push(DocumentTree::read_entry(layout, &entry)?);
            }
        }
        let mut found: Vec<DocumentTree> = Vec::new();
        let refers = |subjects: &[Digest], tree: &DocumentTree| {
            tree.subject().is_some_and(|subject| subjects.contains(&subject))
        };
        while let Some(at) = open.iter().position(|tree| refers(&subjects, tree)) {
            let tree = open.swap_remove(at);
            // Several layouts may contain it.
            if !subjects.contains(&tree.root.digest) {
                subjects.push(tree.root.digest);
                found.push(tree);
            }
        }
        Ok(found)
    }

    /// Where a blob is, or would be.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let mut paths = self.all.iter().map(|it| it.layout.blob_path(digest));
        let found = paths.clone().find(|path| path.is_file());
        found.or_else(|| paths.next()).unwrap_or_default()
    }
}

impl TaggedLayout {
    /// `dist`, or `dist:3.7.1-0` if the layout contains several images.
    pub(super) fn open(name: &str) -> Result<Self, Failure> {
        let (folder, tag) = match name.rsplit_once(':') {
            Some((folder, tag)) if !tag.contains('/') && !Path::new(name).exists() => {
                (folder, Some(tag))
            }
            _ => (name, None),
        };
        let layout = Layout::open(Path::new(folder))?;
        let mut all = layout.tagged()?;
        if let Some(tag) = tag {
            all.retain(|tagged| tagged.tag == tag);
        }
        match all.len() {
            1 => Ok(Self { layout, tagged: all.remove(0) }),
            0 => Err(LayoutError::NoTag {
                path: folder.into(),
                tag: tag.unwrap_or("anything").to_owned(),
            }
            .into()),
            _ => {
                let tags = all.into_iter().map(|tagged| tagged.tag).collect();
                let error = LayoutError::SeveralTags { path: folder.into(), tags };
                Err(Failure::new(Kind::Other, error).hint(format!("write {folder}:TAG")))
            }
        }
    }
}
