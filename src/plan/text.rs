//! The plan as text for people.

use std::fmt;

use super::{EntryContent, EntryPlan, LayerPlan, Plan, ProgramSource};

/// The plan for people: index, images, layers, files, each with its source and digest.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "index {}:{} (format {})", self.repository, self.tag, self.format)?;
        for image in &self.images {
            writeln!(f, "  image {}", image.platform)?;
            writeln!(f, "    base {} = {}", image.base.name, image.base.source)?;
            image.layers.iter().try_for_each(|layer| layer.fmt(f))?;
        }
        Ok(())
    }
}

impl fmt::Display for LayerPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    layer {}", self.name)?;
        writeln!(f, "      from {}", self.source)?;
        self.entries
            .iter()
            .filter(|entry| entry.content != EntryContent::Directory)
            .try_for_each(|entry| writeln!(f, "      {entry}"))
    }
}

impl fmt::Display for ProgramSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(it) => write!(f, "release {} {}", it.file, it.digest),
            Self::Modules(it) => write!(
                f,
                "source {} commit {} go {} for {}/{} go.sum {}",
                it.version,
                &it.commit[..7],
                it.go,
                it.goos,
                it.goarch,
                it.go_sum
            ),
            Self::Workspace(it) => {
                write!(f, "workspace rust {} zig {} for {}", it.rust, it.zig, it.triple)
            }
        }
    }
}

impl fmt::Display for EntryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {}", self.mode, self.path)?;
        match &self.content {
            EntryContent::HardLink { to } => {
                write!(f, " = {}", to.rsplit('/').next().unwrap_or(to))
            }
            EntryContent::Directory | EntryContent::Program { .. } | EntryContent::Text { .. } => {
                Ok(())
            }
        }
    }
}
