//! `tidegate config sample`: a settings file with every key, its meaning and its default.

use super::schema::{KEYS, TABLES};
use super::show::default_toml;

const HEAD: &str = "\
# Settings of Tidegate: every key with its default. Copy what you change.
# Read from --config FILE, else from the file that TIDEGATE_CONFIG names, else from ./tidegate.toml.
# The environment wins over this file (TIDEGATE_HTTP__MAX_BODY_BYTES sets http.max_body_bytes), flags
# win over both. `tidegate config show` tells which of them set a value.
# Sizes are bytes, or strings such as \"8 MiB\".
";

/// Column at which comments wrap.
const WIDTH: usize = 100;

/// The sample file. It loads, and loading it changes nothing. Keys whose default depends on other
/// settings are commented out: a copied `auth.mode = "none"` would count as asked for by name.
pub fn sample() -> String {
    let mut out = HEAD.to_owned();
    for (table, doc) in TABLES {
        if !table.is_empty() {
            out.push('\n');
            comment(&mut out, doc);
            out.push_str(&format!("[{table}]\n"));
        }
        for key in KEYS {
            let (parent, name) = key.table_and_name();
            if parent != *table {
                continue;
            }
            out.push('\n');
            comment(&mut out, key.doc);
            if key.is_open() {
                out.push_str(&format!("[{}]\n# {}\n", key.path, key.example));
            } else if let Some(default) = default_toml(key) {
                out.push_str(&format!("{name} = {default}\n"));
            } else {
                if let Some(meaning) = key.when_unset {
                    comment(&mut out, &format!("Unset: {meaning}."));
                }
                if key.is_list_of_tables() {
                    out.push_str(&format!("# [[{}]]\n", key.path));
                    for line in key.example.lines() {
                        out.push_str(&format!("# {line}\n"));
                    }
                } else {
                    out.push_str(&format!("# {name} = {}\n", key.example));
                }
            }
        }
    }
    out
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
