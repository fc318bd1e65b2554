//! nginx: one `server` block per host, as generators of its configuration write them.

use std::process::Command;

use anyhow::Result;

use super::{KEPT_CONNECTIONS, Site};

pub(super) fn set_up(site: &Site<'_>, command: &mut Command) -> Result<()> {
    let directory = site.directory.display();
    let plain = format!("listen 127.0.0.1:{}", site.plain);
    let (listen, refuse, tls) = match site.tls {
        None => (
            format!("{plain};"),
            format!("{plain} default_server;"),
            String::new(),
        ),
        Some(port) => {
            let tls = format!("listen 127.0.0.1:{port} ssl http2");
            let (certificate, key) = (site.identity.certificate.display(), site.identity.key.display());
            (
                format!("{plain}; {tls};"),
                format!("{plain} default_server; {tls} default_server;"),
                format!(
                    "  ssl_certificate {certificate};\n  ssl_certificate_key {key};\n  ssl_protocols TLSv1.3;\n"
                ),
            )
        }
    };
    let servers: String = site
        .hosts
        .names()
        .map(|host| {
            format!(
                "  server {{ {listen} server_name {host}; \
                 location / {{ proxy_pass http://bench; }} }}\n"
            )
        })
        .collect();
    // Buffers hold the largest body, and nothing goes to a file. Workers run as whoever started this.
    let text = format!(
        "daemon off;\nworker_processes 1;\nuser {user};\npid {directory}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n\
         \x20 client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n\
         \x20 fastcgi_temp_path {directory}/fastcgi;\n  uwsgi_temp_path {directory}/uwsgi;\n\
         \x20 scgi_temp_path {directory}/scgi;\n\
         \x20 keepalive_requests 1000000000;\n  keepalive_timeout 300s;\n\
         \x20 server_names_hash_max_size 262144;\n  server_names_hash_bucket_size 128;\n\
         {tls}\
         \x20 proxy_http_version 1.1;\n  proxy_set_header Connection \"\";\n  proxy_set_header Host $http_host;\n\
         \x20 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         \x20 proxy_buffer_size 16k;\n  proxy_buffers 16 16k;\n  proxy_max_temp_file_size 0;\n\
         \x20 upstream bench {{\n    server 127.0.0.1:{backend};\n    keepalive {KEPT_CONNECTIONS};\n\
         \x20   keepalive_requests 1000000000;\n  }}\n\
         \x20 server {{ {refuse} return 404; }}\n{servers}}}\n",
        user = if nix::unistd::geteuid().is_root() {
            "root"
        } else {
            "nobody"
        },
        backend = site.backend,
    );
    let config = site.write("nginx.conf", &text)?;
    // `-e`: without it the built-in log file is opened before the configuration is read.
    command
        .args(["-e", "stderr", "-p"])
        .arg(site.directory)
        .arg("-c")
        .arg(config);
    Ok(())
}
