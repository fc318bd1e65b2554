//! Bad files, and the exact text an operator sees.

use super::load;

struct Case {
    format: &'static str,
    text: &'static str,
    shown: &'static str,
}

#[test]
fn every_error_is_shown_with_its_place() {
    for Case { format, text, shown } in CASES {
        let (errors, _) = load(format, text, &[], &[]).expect_err(text);
        assert_eq!(errors, *shown, "of this {format}:\n{text}");
    }
}

#[test]
fn errors_are_objects_for_scripts() {
    let (_, errors) = load("yaml", "log: {level: loud}", &[], &[]).unwrap_err();
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(json[0]["key"], "log.level");
    assert_eq!(json[0]["origin"]["line"], 1);
    assert_eq!(json[0]["origin"]["column"], 14);
    assert_eq!(json[0]["value"], "\"loud\"");
    assert_eq!(json[0]["expected"], "one of trace, debug, info, warn, error");
}

const CASES: &[Case] = &[
    Case {
        format: "yaml",
        text: "serviceDefaults:\n  retry: {statuses: [500], atempts: 1}\n",
        shown: "c.yaml:2:28: serviceDefaults.retry.atempts: unknown key\n    expected: one of attempts, backoff, budgetMin, budgetPercent, enabled, idempotencyKey, maxBackoff, perTryTimeout, replayBytes, statuses, timeout\n    hint: did you mean `attempts`?",
    },
    Case {
        format: "yaml",
        text: "serviceDefaults:\n  retry: {statuses: [503, 403]}\n",
        shown: "c.yaml:2:21: serviceDefaults.retry.statuses: holds 403, which can't be tried again for every service\n    value: a list of 2\n    expected: 429, or statuses from 500 to 599\n    hint: set it for the services that mean \"ask another server\" by it: constellation.http.services.NAME.retry.statuses",
    },
    Case {
        format: "yaml",
        text: "entryPoints:
  web:
    adress: ':80'
    address: [':80', 'example.org:80', ':53/udp']
    transport:
      respondingTimeouts:
        readTimeout: 10 parsecs
log:
  level: loud
providers:
  dockr: {}
",
        shown: r#"c.yaml:3:5: entryPoints.web.adress: unknown key
    expected: one of address, asDefault, forwardedHeaders, http, http2, limits, proxyProtocol, reusePort, transport, udp
    hint: did you mean `address`?
c.yaml:4:22: entryPoints.web.address[1]: is not an IP address
    value: "example.org:80"
    expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one
    hint: host names are not looked up here; write the IP address
c.yaml:4:40: entryPoints.web.address[2]: mixes TCP and UDP in one entry point
    value: ":53/udp"
    hint: write two entry points, one for each; they may share the port
c.yaml:7:22: entryPoints.web.transport.respondingTimeouts.readTimeout: is not a duration
    value: "10 parsecs"
    expected: a duration such as 500ms, 10s, 1m30s or 2h, or a whole number of seconds
c.yaml:9:10: log.level: is not one of the allowed words
    value: "loud"
    expected: one of trace, debug, info, warn, error
c.yaml:11:3: providers.dockr: unknown key
    expected: one of certificates, docker, file
    hint: did you mean `docker`?"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {web: {address: ':80', http: {redirections: {entryPoint: {to: websecur, scheme: gopher}}}}, websecure: {address: 80}}",
        shown: r#"c.yaml:1:76: entryPoints.web.http.redirections.entryPoint.to: is not the name of an entry point
    value: "websecur"
    expected: one of websecure, or a port such as `:8443`
    hint: did you mean `websecure`?
c.yaml:1:94: entryPoints.web.http.redirections.entryPoint.scheme: is not a scheme that is served
    value: "gopher"
    expected: http or https
c.yaml:1:127: entryPoints.websecure.address: is not an address with a port
    value: 80
    expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one
    hint: write `:80`"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {web: {address: ':80', http: {redirections: {entryPoint: {to: web}}}}}",
        shown: r#"c.yaml:1:76: entryPoints.web.http.redirections.entryPoint.to: the entry point redirects to itself
    value: "web"
    hint: name another entry point"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {web: {address: ':80', http: {redirections: {entryPoint: {to: ':0'}}}}}",
        shown: r#"c.yaml:1:76: entryPoints.web.http.redirections.entryPoint.to: is not a port
    value: ":0"
    expected: `:` and a number from 1 to 65535"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {web: {address: ':80', http: {redirections: {entryPoint: {}}}}}",
        shown: "c.yaml:1:71: entryPoints.web.http.redirections.entryPoint.to: is missing
    expected: a port such as `:8443`, because there is no other entry point",
    },
    Case {
        format: "yaml",
        text: "entryPoints: {web: {}, 'a b': {address: ':81'}}",
        shown: r#"c.yaml:1:20: entryPoints.web.address: the entry point has no address
    expected: `:PORT` or `IP:PORT`, or a list of them
c.yaml:1:31: entryPoints.a b: "a b" is not a name for an entry point
    value: a map {address}
    expected: letters, digits, `-` and `_`, at most 63"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: ':80'}, b: {address: ['127.0.0.1:80', ':81']}, c: {address: ':8080'}}",
        shown: r#"c.yaml:1:50: entryPoints.b.address[0]: is taken by entryPoints.a.address ([::]:80)
    value: "127.0.0.1:80"
    hint: give one of them another port or another IP address
c.yaml:1:88: entryPoints.c.address: is taken by control.address (127.0.0.1:8080)
    value: ":8080"
    hint: give one of them another port or another IP address"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: [':80', '0.0.0.0:80']}}",
        shown: r#"c.yaml:1:36: entryPoints.a.address[1]: is taken by entryPoints.a.address[0] ([::]:80)
    value: "0.0.0.0:80"
    hint: `:PORT` and `[::]:PORT` are IPv4 and IPv6; leave the other one out"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: 5}",
        shown: "c.yaml:1:18: entryPoints.a: has the wrong shape
    value: 5
    expected: a map, or `true` for its defaults",
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: {x: 1}}}",
        shown: "c.yaml:1:28: entryPoints.a.address: has the wrong shape
    value: a map {x}
    expected: a list of texts",
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: ':80', forwardedHeaders: {trustedIPs: [10.0.0.0/8, nonsense, 10.0.0.0/33]}}}",
        shown: r#"c.yaml:1:79: entryPoints.a.forwardedHeaders.trustedIPs[1]: is not an address or network
    value: "nonsense"
    expected: an IP address or a network such as 10.0.0.0/8
c.yaml:1:89: entryPoints.a.forwardedHeaders.trustedIPs[2]: is not an address or network
    value: "10.0.0.0/33"
    expected: an IP address or a network such as 10.0.0.0/8"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: ':80', limits: {headerTimeout: 0, maxHeaders: 0, maxBodyBytes: -1, maxConnections: many}}}",
        shown: r#"c.yaml:1:59: entryPoints.a.limits.headerTimeout: must be more than 0
    value: 0
    expected: a duration such as 10s
c.yaml:1:74: entryPoints.a.limits.maxHeaders: is out of range
    value: 0
    expected: a whole number from 1 to 10000
c.yaml:1:91: entryPoints.a.limits.maxBodyBytes: is out of range
    value: -1
    expected: a whole number, 0 or more
c.yaml:1:111: entryPoints.a.limits.maxConnections: is not a whole number
    value: "many"
    expected: a whole number from 1 to 10000000"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: ':80', limits: {rateGrace: 0, minBodyRate: -1, exemptSources: [x]}}}",
        shown: r#"c.yaml:1:55: entryPoints.a.limits.rateGrace: is out of range
    value: 0
    expected: 1s to 1h; to switch a rate off, set `minBodyRate` or `minSendRate` to 0
c.yaml:1:71: entryPoints.a.limits.minBodyRate: is out of range
    value: -1
    expected: a whole number from 0 to 1000000000
c.yaml:1:91: entryPoints.a.limits.exemptSources[0]: is not an address or network
    value: "x"
    expected: an IP address or a network such as 10.0.0.0/8"#,
    },
    Case {
        format: "yaml",
        text: "entryPoints: {a: {address: ':80', proxyProtocol: {insecure: true}, http3: {}}}",
        shown: "c.yaml:1:68: entryPoints.a.http3: is not supported by this version
    hint: remove it: clients use HTTP/2 instead",
    },
    Case {
        format: "yaml",
        text: "certificatesResolvers: {le: {}}
api: {}
ping: {}
http: {}
providers: {consul: {}, docker: {watch: true}}
cluster: {}
colour: red
",
        shown: "c.yaml:2:1: api: is not supported by this version
    hint: remove it: the API is always served at control.address
c.yaml:3:1: ping: is not supported by this version
    hint: remove it: health is always served at control.address, path /health
c.yaml:4:1: http: belongs to the dynamic configuration
    hint: put it into a file that providers.file names
c.yaml:5:13: providers.consul: is not supported by this version
    hint: use providers.docker, or providers.file with files that you generate
c.yaml:5:34: providers.docker.watch: is not supported by this version
    hint: remove it: containers are always watched
c.yaml:7:1: colour: unknown key
    expected: one of accessLog, cluster, control, edge, entryPoints, log, node, providers, proxy, serversTransport, serviceDefaults, tcpServersTransport, traefikProvider",
    },
    Case {
        format: "yaml",
        text: "providers: {docker: {endpoint: /var/run/docker.sock, tls: {cert: a}, defaultRule: ''}}",
        shown: r#"c.yaml:1:32: providers.docker.endpoint: is not where a Docker engine can listen
    value: "/var/run/docker.sock"
    expected: unix:///path/to/docker.sock, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT
    hint: write `unix:///var/run/docker.sock`
c.yaml:1:66: providers.docker.tls.cert: is given without providers.docker.tls.key
    value: "a"
    hint: give both, or neither
c.yaml:1:83: providers.docker.defaultRule: is empty
    value: ""
    hint: leave the key out for Traefik's default"#,
    },
    Case {
        format: "yaml",
        text: "providers: {docker: {endpoint: 'ssh://host'}}",
        shown: r#"c.yaml:1:32: providers.docker.endpoint: is not where a Docker engine can listen
    value: "ssh://host"
    expected: unix:///path/to/docker.sock, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT
    hint: forward the socket with `ssh -L` and name the local end"#,
    },
    Case {
        format: "yaml",
        text: "providers: {file: {filename: a, directory: b}}",
        shown: r#"c.yaml:1:30: providers.file.filename: and providers.file.directory are both given
    value: "a"
    hint: keep one of them"#,
    },
    Case {
        format: "yaml",
        text: "providers: {file: {}}",
        shown: "c.yaml:1:19: providers.file: names nothing to read
    value: a map {}
    expected: the key `filename` or the key `directory`",
    },
    Case {
        format: "yaml",
        text: "providers: {certificates: {}}",
        shown: "c.yaml:1:27: providers.certificates: names nothing to read
    value: a map {}
    expected: the key `directory`: a path or a list of paths",
    },
    Case {
        format: "yaml",
        text: "providers: {certificates: {directory: [a, '', a]}}",
        shown: r#"c.yaml:1:43: providers.certificates.directory[1]: is empty
    value: ""
    expected: a path
c.yaml:1:47: providers.certificates.directory[2]: is in the list twice
    value: "a"
    hint: keep one of them"#,
    },
    Case {
        format: "yaml",
        text: "control: {address: '8080', token: x, tokenFile: /nonexistent}",
        shown: r#"c.yaml:1:20: control.address: is not an address with a port
    value: "8080"
    expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one
    hint: write `:8080`
c.yaml:1:49: control.tokenFile: and control.token are both given
    value: "/nonexistent"
    hint: keep one of them"#,
    },
    Case {
        format: "yaml",
        text: "control: {tokenFile: /nonexistent/token}",
        shown: r#"c.yaml:1:22: control.tokenFile: the file can't be read: No such file or directory (os error 2)
    value: "/nonexistent/token"
    hint: check the path and its permissions"#,
    },
    Case {
        format: "yaml",
        text: "control: {token: [secret]}",
        shown: "c.yaml:1:18: control.token: has the wrong shape
    value: [redacted]
    expected: a text",
    },
    Case {
        format: "yaml",
        text: "node: {name: 'under_score', domain: 'exa mple', priority: 70000}",
        shown: r#"c.yaml:1:14: node.name: is not a DNS label
    value: "under_score"
    expected: letters, digits and `-`, at most 63, no `-` at the ends
c.yaml:1:37: node.domain: is not a domain name
    value: "exa mple"
    expected: labels of letters, digits and `-` with dots between them, such as example.org
c.yaml:1:59: node.priority: is out of range
    value: 70000
    expected: a whole number from 0 to 65535"#,
    },
    Case {
        format: "yaml",
        text: "accessLog: {sampling: 2, format: xml, bufferingSize: 0, filters: {statusCodes: [200, 300-299, abc]}, fields: {headers: {names: {Cookie: hide}}}}",
        shown: r#"c.yaml:1:23: accessLog.sampling: is not a number in range
    value: 2
    expected: a number from 0 to 1
c.yaml:1:34: accessLog.format: is not one of the allowed words
    value: "xml"
    expected: one of common, genericCLF, json
c.yaml:1:54: accessLog.bufferingSize: is out of range
    value: 0
    expected: a whole number from 1 to 1000000
c.yaml:1:86: accessLog.filters.statusCodes[1]: is not a status or a range
    value: "300-299"
    expected: a number from 100 to 599 such as 404, or a range such as 500-599
c.yaml:1:95: accessLog.filters.statusCodes[2]: is not a status or a range
    value: "abc"
    expected: a number from 100 to 599 such as 404, or a range such as 500-599
c.yaml:1:137: accessLog.fields.headers.names.Cookie: is not one of the allowed words
    value: "hide"
    expected: one of keep, drop, redact"#,
    },
    Case {
        format: "yaml",
        text: "proxy: {retryAfter: 1500ms, workers: 5000}
serversTransport: {maxIdleConnsPerHost: 0, forwardingTimeouts: {dialTimeout: 0}}",
        shown: r#"c.yaml:1:21: proxy.retryAfter: is out of range
    value: "1500ms"
    expected: whole seconds from 1s to 1h
c.yaml:1:38: proxy.workers: is out of range
    value: 5000
    expected: a whole number from 0 to 1024
c.yaml:2:41: serversTransport.maxIdleConnsPerHost: is out of range
    value: 0
    expected: a whole number from 1 to 100000
c.yaml:2:78: serversTransport.forwardingTimeouts.dialTimeout: must be more than 0
    value: 0
    expected: a duration such as 10s"#,
    },
    Case {
        format: "yaml",
        text: "- a",
        shown: "c.yaml:1:1: the configuration is not a map
    value: a list of 1
    expected: keys such as entryPoints, providers, log",
    },
    Case {
        format: "yaml",
        text: "just text",
        shown: r#"c.yaml:1:1: the configuration is not a map
    value: "just text"
    expected: keys such as entryPoints, providers, log"#,
    },
    Case {
        format: "yaml",
        text: "a: [1
",
        shown: "c.yaml:2:1: not valid YAML: while parsing a flow sequence, expected ',' or ']'",
    },
    Case {
        format: "yaml",
        text: "log:
	level: info
",
        shown: "c.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)
    hint: indent with spaces",
    },
    Case {
        format: "yaml",
        text: "log: {level: info}
LOG: {level: info}
",
        shown: "c.yaml:2:1: log: the key stands here again; it is first on line 1
    hint: keep one of them; keys are the same in any case",
    },
    Case {
        format: "yaml",
        text: "log: !custom x",
        shown: r#"c.yaml:1:6: the YAML tag !custom is not supported
    hint: write the value without a tag
c.yaml:1:6: log: has the wrong shape
    value: "x"
    expected: a map, or `true` for its defaults"#,
    },
    Case {
        format: "toml",
        text: r#"[log]
level = "loud"
[entryPoints.web]
address = 80
extra = 1979-05-27
[log]
"#,
        shown: r#"c.toml:2:9: log.level: is not one of the allowed words
    value: "loud"
    expected: one of trace, debug, info, warn, error
c.toml:4:11: entryPoints.web.address: is not an address with a port
    value: 80
    expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one
    hint: write `:80`
c.toml:5:1: entryPoints.web.extra: unknown key
    expected: one of address, asDefault, forwardedHeaders, http, http2, limits, proxyProtocol, reusePort, transport, udp
c.toml:6:2: log: the key stands here again
    hint: keep one of them"#,
    },
    Case {
        format: "toml",
        text: "a = 
b = 'x
",
        shown: "c.toml:1:5: not valid TOML: string values must be quoted, expected literal string
c.toml:2:7: not valid TOML: invalid literal string, expected `'`",
    },
    Case {
        format: "toml",
        text: "[log]
level = 1
level = 2
",
        shown: "c.toml:2:9: log.level: is not one of the allowed words
    value: 1
    expected: one of trace, debug, info, warn, error
c.toml:3:1: level: the key stands here again
    hint: keep one of them",
    },
    Case {
        format: "toml",
        text: r#"[node]
nmae = "x"
[accessLog]
sampling = 1_0.5
"#,
        shown: "c.toml:2:1: node.nmae: unknown key
    expected: one of dataDir, domain, name, priority, region
    hint: did you mean `name`?
c.toml:4:12: accessLog.sampling: is not a number in range
    value: 10.5
    expected: a number from 0 to 1",
    },
    Case {
        format: "json",
        text: r#"{"log": {"level": "loud", "level": 1}}"#,
        shown: r#"c.json:1:19: log.level: is not one of the allowed words
    value: "loud"
    expected: one of trace, debug, info, warn, error
c.json:1:27: log.level: the key stands here again; it is first on line 1
    hint: keep one of them; keys are the same in any case
c.json:1:36: log.level: is not one of the allowed words
    value: 1
    expected: one of trace, debug, info, warn, error"#,
    },
    Case {
        format: "json",
        text: r#"{"log": {"level": "loud",
 "colour": [1, 2]}}"#,
        shown: r#"c.json:1:19: log.level: is not one of the allowed words
    value: "loud"
    expected: one of trace, debug, info, warn, error
c.json:2:2: log.colour: unknown key
    expected: one of filter, format, level"#,
    },
    Case {
        format: "json",
        text: r#"{"a": }"#,
        shown: "c.json:1:7: not valid JSON: expected a value",
    },
    Case {
        format: "json",
        text: r#"{"a": 1,}"#,
        shown: "c.json:1:9: not valid JSON: expected a key in double quotes",
    },
    Case {
        format: "json",
        text: "{a: 1}",
        shown: "c.json:1:2: not valid JSON: expected a key in double quotes",
    },
    Case {
        format: "json",
        text: "[1, 2",
        shown: "c.json:1:6: not valid JSON: expected `,` or `]`",
    },
    Case {
        format: "json",
        text: r#"{"a": 01}"#,
        shown: "c.json:1:7: not valid JSON: not a number",
    },
    Case {
        format: "json",
        text: r#"{"a": "\ud800"}"#,
        shown: "c.json:1:8: not valid JSON: half a surrogate pair",
    },
    Case {
        format: "json",
        text: r#"{"a": "x
y"}"#,
        shown: "c.json:1:9: not valid JSON: a control character must be escaped",
    },
    Case {
        format: "json",
        text: "{} x",
        shown: "c.json:1:4: not valid JSON: text after the end of the document",
    },
    Case {
        format: "json",
        text: r#"{"a": "x"#,
        shown: "c.json:1:7: not valid JSON: the closing quote is missing",
    },
    Case {
        format: "json",
        text: r#"{"a": tru}"#,
        shown: "c.json:1:7: not valid JSON: a text needs double quotes",
    },
    Case {
        format: "txt",
        text: "",
        shown: "c.txt: the name doesn't say which format the file has
    hint: let it end in .yaml, .yml, .toml or .json",
    },
    Case {
        format: "yaml",
        text: "log: {level: loud}
log: {format: xml}
node: {name: a, name: b}
entryPoints: {web: {address: ':1'}, web: {address: ':2'}}
",
        shown: r#"c.yaml:1:14: log.level: is not one of the allowed words
    value: "loud"
    expected: one of trace, debug, info, warn, error
c.yaml:2:1: log: the key stands here again; it is first on line 1
    hint: keep one of them; keys are the same in any case
c.yaml:2:15: log.format: is not one of the allowed words
    value: "xml"
    expected: one of common, json
c.yaml:3:17: node.name: the key stands here again; it is first on line 3
    hint: keep one of them; keys are the same in any case
c.yaml:4:37: entryPoints.web: the key stands here again; it is first on line 4
    hint: keep one of them"#,
    },
    Case {
        format: "yaml",
        text: "a: &a [*a]
",
        shown: "c.yaml:1:8: the alias stands inside the value it names",
    },
    Case {
        format: "yaml",
        text: "node: {<<: 5, name: x}",
        shown: "c.yaml:1:12: <<: cannot be merged
    value: 5
    expected: an alias of a map, or a list of such aliases",
    },
    Case {
        format: "yaml",
        text: "log: {filter: x}
---
log: {}
",
        shown: "c.yaml:3:1: a second YAML document starts here; only one is read
    hint: put it into a file of its own",
    },
    Case {
        format: "yaml",
        text: "? [a]
: b
",
        shown: "c.yaml:1:3: a key must be a plain value
    expected: a name followed by a colon",
    },
    Case {
        format: "yaml",
        text: "accessLog: yes
",
        shown: r#"c.yaml:1:12: accessLog: has the wrong shape
    value: "yes"
    expected: a map, or `true` for its defaults"#,
    },
];
