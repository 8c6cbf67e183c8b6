//! Finds etcd's flags and variables in a text (a manifest, a unit of systemd, a command line), says
//! which of them a version refuses, and fixes the text.
//!
//! Pure. Knows no YAML: a setting is found by its form, wherever it stands, and what is fixed is
//! the setting alone, so that comments and order stay. What stands in a container of another
//! program does not count.

mod edit;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use etcd_version::facts::{Flag, Replacement};
use etcd_version::{Facts, Series};

use self::edit::Edits;
use self::scan::{EtcdSetting, Form};
use crate::plan::spelling::{GATES, Spelling, flag_of_gate, other_spelling, unknown, variable_of};

/// Something about a setting that the target version refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it stands; the first line is 1.
    pub line: usize,
    /// As it is written: `--name` or `ETCD_NAME`.
    pub name: String,
    pub reason: String,
    /// What to do instead.
    pub remedy: String,
}

/// The result for a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedSettings {
    pub refused: Vec<Refused>,
    /// The text that the target version takes.
    pub text: String,
    /// How many settings of etcd were found.
    pub settings: usize,
}

/// Looks at the settings in a text, and fixes them for a version.
pub fn fix(text: &str, series: Series) -> FixedSettings {
    let settings = scan::settings(text);
    let mut fixer = Fixer { text, series, edits: Edits::default(), refused: Vec::new() };
    let mut scopes: BTreeMap<usize, Vec<&EtcdSetting>> = BTreeMap::new();
    for setting in &settings {
        scopes.entry(setting.scope).or_default().push(setting);
    }
    for settings in scopes.values() {
        fixer.scope(settings);
    }
    let Fixer { edits, mut refused, .. } = fixer;
    refused.sort_by_key(|refused| refused.line);
    FixedSettings { refused, text: edits.apply(text), settings: settings.len() }
}

struct Fixer<'a> {
    text: &'a str,
    series: Series,
    edits: Edits,
    refused: Vec<Refused>,
}

impl Fixer<'_> {
    /// The settings of one server.
    fn scope(&mut self, settings: &[&EtcdSetting]) {
        let mut gates: Vec<(&EtcdSetting, String)> = Vec::new();
        for setting in settings {
            let Some(flag) = Facts::current().flag(&setting.name) else { continue };
            let has = |name: &str| settings.iter().any(|other| other.name == name);
            self.setting(setting, flag, has, &mut gates);
        }
        self.add_gates(settings, &gates);
    }

    fn setting<'s>(
        &mut self,
        setting: &'s EtcdSetting,
        flag: &Flag,
        has: impl Fn(&str) -> bool,
        gates: &mut Vec<(&'s EtcdSetting, String)>,
    ) {
        if flag.name == GATES {
            if !flag.is_known_to(self.series) {
                self.without_gates(setting);
            }
            return;
        }
        if flag.is_known_to(self.series) {
            return;
        }
        let reason = unknown(flag, self.series);
        match other_spelling(flag, self.series) {
            Some(Spelling::Flag(twin)) if has(twin) => {
                let remedy = format!("remove it, {} is there", setting.form.name(twin));
                self.remove(setting, reason, remedy);
            }
            Some(Spelling::Flag(twin)) => {
                let name = setting.form.name(twin);
                self.refuse(setting, reason, format!("write {name}"));
                self.edits.replace(setting.name_range.clone(), name);
            }
            Some(Spelling::Gate(gate)) => {
                let value = setting.value.as_deref().unwrap_or("true");
                let gate = format!("{gate}={value}");
                self.refuse(setting, reason, format!("write {}={gate}", setting.form.name(GATES)));
                gates.push((setting, gate));
            }
            None => self.without_twin(setting, flag, reason),
        }
    }

    /// For a version that has no other flag of the same meaning.
    fn without_twin(&mut self, setting: &EtcdSetting, flag: &Flag, reason: String) {
        match &flag.replacement {
            Some(Replacement::Instead { name, value, when })
                if setting.value.as_deref().unwrap_or("true") == when =>
            {
                let name = setting.form.name(name);
                self.refuse(setting, reason, format!("write {name}={value}"));
                self.edits.set(setting, name, value);
            }
            _ => self.remove(setting, reason, "remove it".to_owned()),
        }
    }

    /// For a version that has flags where others have feature gates.
    fn without_gates(&mut self, setting: &EtcdSetting) {
        let list = setting.value.clone().unwrap_or_default();
        let entries = list.split(',').filter_map(|entry| entry.trim().split_once('='));
        let flags: Vec<_> = entries
            .filter_map(|(gate, value)| {
                let flag = flag_of_gate(gate, self.series)?;
                Some((setting.form.name(&flag.name), value.to_owned()))
            })
            .collect();
        let reason = format!("etcd {} has no feature gates", self.series);
        let [(name, value)] = &flags[..] else {
            let remedy = flags.iter().map(|(name, value)| format!("{name}={value}"));
            let remedy = remedy.collect::<Vec<_>>().join(" and ");
            let remedy =
                if remedy.is_empty() { "remove it".to_owned() } else { format!("write {remedy}") };
            // More than one setting in place of one is left to a person.
            if flags.is_empty() {
                return self.remove(setting, reason, remedy);
            }
            return self.refuse(setting, reason, remedy);
        };
        self.refuse(setting, reason, format!("write {name}={value}"));
        self.edits.set(setting, name.clone(), value);
    }

    /// All features are one setting: that which is there, else the first one that becomes one.
    fn add_gates(&mut self, settings: &[&EtcdSetting], gates: &[(&EtcdSetting, String)]) {
        let Some(((first, _), others)) = gates.split_first() else { return };
        let list: Vec<_> = gates.iter().map(|(_, gate)| gate.as_str()).collect();
        let list = list.join(",");
        let there = settings.iter().find(|setting| setting.name == GATES);
        if let Some(there) = there
            && let Some(value) = &there.value_range
        {
            self.edits.replace(value.end..value.end, format!(",{list}"));
            self.edits.remove(self.text, first);
        } else {
            let name = first.form.name(GATES);
            self.edits.set(first, name, &list);
        }
        for (setting, _) in others {
            self.edits.remove(self.text, setting);
        }
    }

    fn remove(&mut self, setting: &EtcdSetting, reason: String, remedy: String) {
        self.edits.remove(self.text, setting);
        self.refuse(setting, reason, remedy);
    }

    fn refuse(&mut self, setting: &EtcdSetting, reason: String, remedy: String) {
        let line = self.text[..setting.name_range.start].matches('\n').count() + 1;
        let name = setting.form.name(&setting.name);
        self.refused.push(Refused { line, name, reason, remedy });
    }
}

impl Form {
    /// The name of a flag in this form.
    fn name(self, flag: &str) -> String {
        match self {
            Self::Flag => format!("--{flag}"),
            Self::Variable => variable_of(flag),
        }
    }
}
