//! What the proxies beside us and the backends are told: each by its own means, nothing tuned but the
//! one core, and the limits that a measurement would run into.

use std::path::Path;

use runtime::Failure;

use super::world::free;

/// Where a proxy listens.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) http: u16,
    /// HTTP/2 without TLS.
    pub(super) http2: u16,
    pub(super) https: u16,
    pub(super) tcp: u16,
    /// Where the endpoint changes.
    pub(super) moving: u16,
}

/// Where everybody listens.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    /// The backend itself, as clients would reach it without a proxy.
    pub(super) straight: Door,
    pub(super) muster: Door,
    pub(super) haproxy: Door,
    pub(super) nginx: Door,
    /// Two ports of the backend, which say which one was asked.
    pub(super) backends: [u16; 2],
}

impl Ports {
    pub(super) fn free() -> Result<Self, Failure> {
        let backends = [free()?, free()?];
        // Muster and HAProxy find HTTP/2 out on the port of HTTP.
        let one = |http, http2| -> Result<Door, Failure> {
            Ok(Door { http, http2, https: free()?, tcp: free()?, moving: free()? })
        };
        let (muster, haproxy) = (free()?, free()?);
        let straight = one(backends[0], free()?)?;
        Ok(Self {
            straight: Door { tcp: backends[0], moving: backends[0], ..straight },
            muster: one(muster, muster)?,
            haproxy: one(haproxy, haproxy)?,
            nginx: one(free()?, free()?)?,
            backends,
        })
    }

    /// All that somebody has to listen on.
    pub(super) fn all(&self) -> Vec<u16> {
        let doors = [&self.straight, &self.muster, &self.haproxy, &self.nginx];
        let all = doors.iter().flat_map(|d| [d.http, d.http2, d.https, d.tcp, d.moving]);
        all.chain(self.backends).collect()
    }
}

/// What both configurations of nginx say of the process and of clients.
fn begin(folder: &Path, name: &str, modules: &str) -> String {
    let folder = folder.display();
    format!(
        "{modules}user root;\ndaemon off;\nworker_processes 1;\npid {folder}/{name}.pid;\n\
         error_log {folder}/{name}.error.log;\nevents {{ worker_connections 4096; }}\n"
    )
}

/// What it says of its own connections, and where it may write.
fn http(folder: &Path, name: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {folder}/{name}.{kind};\n"))
        .collect();
    format!(
        "{temporary}  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_timeout 600s;\n  \
         keepalive_requests 1000000000;\n  ssl_certificate {folder}/bench.crt;\n  \
         ssl_certificate_key {folder}/bench.key;\n  ssl_protocols TLSv1.3;\n"
    )
}

/// The backend: nginx, which answers from memory, or sends a file.
pub(super) fn backend(folder: &Path, ports: &Ports) -> String {
    let (process, http) = (begin(folder, "backend", ""), http(folder, "backend"));
    let [a, b] = ports.backends;
    let (http2, https) = (ports.straight.http2, ports.straight.https);
    let root = folder.display();
    // As long as a short answer of JSON.
    let body = "x".repeat(127);
    let server = |listen: String, word: &str| {
        format!(
            "  server {{\n{listen}    location / {{ return 200 \"{word}{body}\"; }}\n    \
             location /large {{ root {root}; open_file_cache max=10; }}\n  }}\n"
        )
    };
    let first = format!(
        "    listen 127.0.0.1:{a} backlog=4096;\n    listen 127.0.0.1:{http2} http2;\n    \
         listen 127.0.0.1:{https} ssl http2;\n"
    );
    let second = format!("    listen 127.0.0.1:{b};\n");
    format!("{process}http {{\n{http}{}{}}}\n", server(first, "a"), server(second, "b"))
}

/// nginx as a proxy; the moving endpoint is on this backend.
pub(super) fn nginx(folder: &Path, ports: &Ports, moved: usize) -> String {
    let module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n";
    let (process, common) = (begin(folder, "nginx", module), http(folder, "nginx"));
    let Door { http, http2, https, tcp, moving } = &ports.nginx;
    let (steady, moved) = (ports.backends[0], ports.backends[moved % 2]);
    let upstream = |name: &str, port: u16| {
        format!(
            "  upstream {name} {{ server 127.0.0.1:{port}; keepalive 256; \
             keepalive_requests 1000000000; }}\n"
        )
    };
    let pass = |name: &str| {
        format!(
            "    location / {{ proxy_pass http://{name}; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $host; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             proxy_set_header X-Forwarded-Proto $scheme; }}\n"
        )
    };
    format!(
        "{process}http {{\n{common}{}{}  server {{\n    listen 127.0.0.1:{http};\n    \
         listen 127.0.0.1:{http2} http2;\n    listen 127.0.0.1:{https} ssl http2;\n{}  }}\n  \
         server {{\n    listen 127.0.0.1:{moving};\n{}  }}\n}}\nstream {{\n  server {{ \
         listen 127.0.0.1:{tcp} backlog=4096; proxy_pass 127.0.0.1:{steady}; }}\n}}\n",
        upstream("steady", steady),
        upstream("moving", moved),
        pass("steady"),
        pass("moving"),
    )
}

/// HAProxy.
pub(super) fn haproxy(folder: &Path, ports: &Ports) -> String {
    let folder = folder.display();
    let Door { http, https, tcp, moving, .. } = &ports.haproxy;
    let [a, b] = ports.backends;
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n  stats socket {folder}/haproxy.sock mode 600 level admin\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend http\n  bind 127.0.0.1:{http}\n  option forwardfor\n  \
         http-request set-header X-Forwarded-Proto http\n  default_backend steady\n\
         frontend https\n  bind 127.0.0.1:{https} ssl crt {folder}/bench.pem alpn h2,http/1.1 \
         ssl-min-ver TLSv1.3\n  option forwardfor\n  \
         http-request set-header X-Forwarded-Proto https\n  default_backend steady\n\
         frontend moving\n  bind 127.0.0.1:{moving}\n  default_backend moving\n\
         frontend tcp\n  mode tcp\n  option splice-auto\n  bind 127.0.0.1:{tcp}\n  default_backend tcp\n\
         backend steady\n  server a 127.0.0.1:{a}\n\
         backend moving\n  server a 127.0.0.1:{a}\n  server b 127.0.0.1:{b} disabled\n\
         backend tcp\n  mode tcp\n  option splice-auto\n  server a 127.0.0.1:{a}\n"
    )
}
