//! HAProxy: hosts in a map file, which is its way to many of them.

use std::process::Command;

use anyhow::Result;

use super::Site;

pub(super) fn set_up(site: &Site<'_>, command: &mut Command) -> Result<()> {
    let hosts: String = site.hosts.names().map(|host| format!("{host} bench\n")).collect();
    let hosts = site.write("hosts.map", &hosts)?;
    let identity = site.identity.both.display();
    let bind_tls = site.tls.map_or_else(String::new, |tls| {
        format!("  bind 127.0.0.1:{tls} ssl crt {identity} alpn h2,http/1.1 ssl-min-ver TLSv1.3\n")
    });
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
         \x20 timeout http-keep-alive 300s\n  option forwardfor\n  http-reuse always\n\
         frontend bench\n  bind 127.0.0.1:{plain}\n\
         {bind_tls}\
         \x20 use_backend %[req.hdr(host),field(1,:),lower,map({hosts})]\n\
         backend bench\n  server one 127.0.0.1:{backend}\n",
        plain = site.plain,
        hosts = hosts.display(),
        backend = site.backend,
    );
    let config = site.write("haproxy.cfg", &text)?;
    command.arg("-db").arg("-f").arg(config);
    Ok(())
}
