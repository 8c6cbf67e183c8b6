//! Layouts that are pushed together, and where to get what they left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::{Layout, LayoutError, Tagged};
use crate::push::{Content, Image, PushError, PushPlan, subject};
use crate::registry::Repository;

/// A layout, and what of it is to be pushed.
pub(super) type Shelf = (Layout, Tagged);

pub(super) struct Shelves {
    all: Vec<Shelf>,
    /// Layers that a sparse layout lacks, and the repositories of the bases that they are from.
    left: BTreeMap<Digest, Repository>,
    /// One index of all that the layouts hold.
    pub(super) content: Content,
}

impl Shelves {
    /// They must hold the same image, and each platform once.
    pub(super) fn new(all: Vec<Shelf>) -> Result<Self, Failure> {
        let read = |(layout, tagged): &Shelf| Content::read(layout, &tagged.descriptor);
        let contents: Vec<_> = all.iter().map(read).collect::<Result<_, _>>()?;
        let tags: Vec<_> = all.iter().map(|(_, tagged)| &tagged.tag).collect();
        if let Some(other) = tags.iter().find(|tag| **tag != tags[0]) {
            let text = format!("the layouts hold different images: {} and {other}", tags[0]);
            return Err(Failure::new(Kind::Other, text));
        }
        let content = Content::join(contents)?;
        let mut shelves = Self { all, left: BTreeMap::new(), content };
        shelves.left = shelves.left_out();
        Ok(shelves)
    }

    fn left_out(&self) -> BTreeMap<Digest, Repository> {
        let bases = self.content.images.iter().filter_map(Image::base);
        let lacking = bases.flat_map(|(repository, layers)| {
            let lacking = layers.into_iter().filter(|digest| !self.path(digest).is_file());
            lacking.map(move |digest| (digest, repository.clone()))
        });
        lacking.collect()
    }

    /// Before anything moves: is all of it here, or known to be elsewhere?
    pub(super) fn check(&self, plan: &PushPlan) -> Result<(), Failure> {
        for piece in plan.all_blobs().filter(|piece| !self.left.contains_key(&piece.digest)) {
            let known = fs::metadata(self.path(&piece.digest));
            if !known.is_ok_and(|known| known.len() == piece.size) {
                return Err(PushError::Lacks(piece.digest).into());
            }
        }
        Ok(())
    }

    /// Where a blob that was left out can be had.
    pub(super) fn left(&self) -> &BTreeMap<Digest, Repository> {
        &self.left
    }

    pub(super) fn tag(&self) -> Option<&str> {
        self.all.first().map(|(_, tagged)| tagged.tag.as_str())
    }

    /// Signatures and the like, which a layout names without a tag: what refers to a document of the
    /// plan, and to those in turn.
    pub(super) fn referrers(&self, plan: &PushPlan) -> Result<Vec<Content>, Failure> {
        let documents = plan.manifests.iter().chain(&plan.root);
        let mut subjects: Vec<_> = documents.map(|manifest| manifest.digest).collect();
        let mut open = Vec::new();
        for (layout, _) in &self.all {
            for descriptor in layout.untagged()? {
                open.push(Content::read(layout, &descriptor)?);
            }
        }
        let mut found: Vec<Content> = Vec::new();
        let refers = |subjects: &[Digest], content: &Content| {
            subject(&content.root).is_some_and(|subject| subjects.contains(&subject))
        };
        while let Some(at) = open.iter().position(|content| refers(&subjects, content)) {
            let content = open.swap_remove(at);
            // Several layouts may hold it.
            if !subjects.contains(&content.root.digest) {
                subjects.push(content.root.digest);
                found.push(content);
            }
        }
        Ok(found)
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let mut paths = self.all.iter().map(|(layout, _)| layout.blob_path(digest));
        let found = paths.clone().find(|path| path.is_file());
        found.or_else(|| paths.next()).unwrap_or_default()
    }
}

/// `dist`, or `dist:3.7.1-0` where a layout holds several images.
pub(super) fn choose(place: &str) -> Result<Shelf, Failure> {
    let (folder, tag) = match place.rsplit_once(':') {
        Some((folder, tag)) if !tag.contains('/') && !Path::new(place).exists() => {
            (folder, Some(tag))
        }
        _ => (place, None),
    };
    let layout = Layout::open(Path::new(folder))?;
    let mut all = layout.tagged()?;
    if let Some(tag) = tag {
        all.retain(|tagged| tagged.tag == tag);
    }
    match all.len() {
        1 => Ok((layout, all.remove(0))),
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
