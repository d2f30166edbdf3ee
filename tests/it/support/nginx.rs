//! A real nginx, as a recipe of the docs sets it up.

use std::process::Command;

use super::process::Supervised;

/// Starts it with this inside of `http`, and these files in its folder. It is up a moment later.
pub fn start(http: &str, files: &[(&str, &String)]) -> Supervised {
    let mut nginx = Supervised::new("tidegate-nginx-");
    let folder = nginx.folder().to_owned();
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places
        .map(|name| format!("{name}_temp_path {name};\n"))
        .concat();
    let whole = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{\n{places}{http}}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), whole).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(&folder)
        .args(["-c", "nginx.conf", "-e", "stderr"]);
    nginx.spawn(&mut command);
    nginx
}
