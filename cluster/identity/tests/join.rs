//! Joining, from the token's text to credentials, and every reason to refuse, each of which changes nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Cluster, HOUR, NOW, name};
use constellation_identity::{
    AuthorityPin, CLOCK_TOLERANCE, JoinError, JoinGrant, JoinToken, Joining, NodeKey, PROTOCOL, Refusal,
    RenewRequest, UnixSeconds, decide, decide_renewal,
};

fn joining(token: &JoinToken, node: &str) -> Joining {
    Joining::new(token.clone(), name(node)).unwrap()
}

#[test]
fn a_node_joins_by_the_text_of_a_token() {
    let mut cluster = Cluster::new();
    let token: JoinToken = cluster.token().to_text().parse().unwrap();
    let joiner = joining(&token, "node-2");
    let request = joiner.request(NOW);
    let over_the_wire = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(request, over_the_wire);

    let grant = cluster.join(&joiner, NOW, NOW).unwrap();
    let grant: JoinGrant = serde_json::from_str(&serde_json::to_string(&grant).unwrap()).unwrap();
    let credentials = joiner.finish(&grant, NOW).unwrap();
    let identity = credentials.certificate().identity();
    assert_eq!((&identity.node, identity.cluster), (&name("node-2"), cluster.id));
    assert!(cluster.members.admits(identity));

    let folder = tempfile::tempdir().unwrap();
    credentials.store(folder.path()).unwrap();
    let loaded = constellation_identity::tls::Credentials::load(cluster.id, folder.path()).unwrap();
    assert_eq!(loaded.certificate(), credentials.certificate());
    assert_eq!(loaded.trust(), credentials.trust());
}

#[test]
fn the_replicated_state_survives_a_snapshot() {
    let mut cluster = Cluster::new();
    let (used, fresh) = (cluster.token(), cluster.token());
    cluster.join(&joining(&used, "node-2"), NOW, NOW).unwrap();
    let snapshot = serde_json::to_string(&(&cluster.tokens, &cluster.members)).unwrap();
    let (tokens, members) = serde_json::from_str(&snapshot).unwrap();
    assert_eq!((&cluster.tokens, &cluster.members), (&tokens, &members));
    let admission = decide(
        &joining(&fresh, "node-3").request(NOW),
        cluster.id,
        &tokens,
        &members,
        NOW,
    )
    .unwrap();
    let logged = serde_json::to_string(&admission).unwrap();
    assert_eq!(
        serde_json::from_str::<constellation_identity::Admission>(&logged).unwrap(),
        admission
    );
    assert_eq!(fresh.id.to_string().parse(), Ok(fresh.id));
    assert!("abc".parse::<constellation_identity::TokenId>().is_err());
}

#[test]
fn a_token_is_good_for_one_node() {
    let mut cluster = Cluster::new();
    let token = cluster.token();
    let first = joining(&token, "node-2");
    cluster.join(&first, NOW, NOW).unwrap();

    for (other, node) in [
        (joining(&token, "node-3"), "another name"),
        (joining(&token, "node-2"), "another key"),
    ] {
        let refused = cluster.join(&other, NOW, NOW).unwrap_err();
        assert!(matches!(refused, Refusal::UsedToken { .. }), "{node}: {refused}");
        assert!(
            refused
                .to_string()
                .contains("used at 2027-01-15T08:00:00Z by node node-2"),
            "{refused}"
        );
    }
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let mut cluster = Cluster::new();
    let joiner = joining(&cluster.token(), "node-2");
    let first = cluster.join(&joiner, NOW, NOW).unwrap();
    let state = (cluster.tokens.clone(), cluster.members.clone());
    let later = NOW.plus(Duration::from_secs(60));
    let second = cluster.join(&joiner, later, later).unwrap();
    assert_ne!(first, second, "certified again");
    assert_eq!(state, (cluster.tokens.clone(), cluster.members.clone()));

    // Removed since: the recorded request does not bring it back.
    cluster.members.remove(&name("node-2"));
    let refused = cluster.join(&joiner, later, later).unwrap_err();
    assert_eq!(refused, Refusal::NotAMember { node: name("node-2") });
    assert_eq!(state.0, cluster.tokens);
}

#[test]
fn two_decisions_at_once_are_settled_by_the_log() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.token(), cluster.token());
    let ask = |cluster: &Cluster, token: &JoinToken, node: &str| {
        decide(
            &joining(token, node).request(NOW),
            cluster.id,
            &cluster.tokens,
            &cluster.members,
            NOW,
        )
        .unwrap()
    };
    // One token, two names; and two tokens, one name: all decided before any is applied.
    let (a, b, c) = (
        ask(&cluster, &one, "a"),
        ask(&cluster, &one, "b"),
        ask(&cluster, &two, "a"),
    );
    assert_eq!(cluster.tokens.redeem(&a, &mut cluster.members, NOW), Ok(()));
    let members = cluster.members.clone();
    let refused = cluster.tokens.redeem(&b, &mut cluster.members, NOW).unwrap_err();
    assert!(matches!(refused, Refusal::UsedToken { .. }), "{refused}");
    let refused = cluster.tokens.redeem(&c, &mut cluster.members, NOW).unwrap_err();
    assert_eq!(refused, Refusal::DuplicateNode { node: name("a") });
    assert_eq!(members, cluster.members);
    assert_eq!(
        cluster.tokens.get(two.id).unwrap().used,
        None,
        "the second token is still good"
    );
    // Proposed twice, applied twice.
    assert_eq!(cluster.tokens.redeem(&a, &mut cluster.members, NOW), Ok(()));
    assert_eq!(members, cluster.members);
    // The log is applied after the expiry: by the time in the command.
    let late = ask(&cluster, &two, "c");
    let refused = cluster
        .tokens
        .redeem(&late, &mut cluster.members, NOW.plus(HOUR))
        .unwrap_err();
    assert!(matches!(refused, Refusal::ExpiredToken { .. }), "{refused}");
}

#[test]
fn every_refusal_names_its_reason_and_changes_nothing() {
    let mut cluster = Cluster::new();
    let token = cluster.token();
    cluster.node("taken");
    let foreign = Cluster::new().token();
    let good = joining(&token, "node-2").request(NOW);
    let with = |change: &dyn Fn(&mut constellation_identity::JoinRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let off = |seconds| Duration::from_secs(seconds);
    let tolerance = CLOCK_TOLERANCE.as_secs();
    let unknown = joining(&foreign, "node-2").request(NOW);
    let table = [
        (
            "protocol",
            with(&|request| request.protocol = PROTOCOL + 1),
            NOW,
            "version 2 of the join protocol",
        ),
        ("cluster", unknown.clone(), NOW, "the join token is for cluster"),
        (
            "unknown",
            with(&|request| request.token = unknown.token),
            NOW,
            "is not known here",
        ),
        (
            "secret",
            with(&|request| request.secret = unknown.secret.clone()),
            NOW,
            "is not known here",
        ),
        (
            "expired",
            with(&|_| ()),
            NOW.plus(HOUR),
            "expired at 2027-01-15T09:00:00Z, it is 2027-01-15T09:00:00Z",
        ),
        (
            "behind",
            with(&|request| request.clock = NOW.minus(5 * HOUR)),
            NOW,
            "18000 s apart",
        ),
        (
            "ahead",
            with(&|request| request.clock = NOW.plus(off(tolerance + 1))),
            NOW,
            "set the clocks by NTP",
        ),
        (
            "1970",
            with(&|request| request.clock = UnixSeconds(0)),
            NOW,
            "the joiner's clock says 1970-01-01",
        ),
        (
            "name",
            with(&|request| request.node = name("taken")),
            NOW,
            "a node named taken is in the cluster already",
        ),
        (
            "garbage",
            with(&|request| request.csr = vec![1, 2, 3]),
            NOW,
            "malformed or not signed",
        ),
        (
            "long",
            with(&|request| request.csr = vec![0; 10_000]),
            NOW,
            "has 10000 bytes, at most 2048",
        ),
    ];
    let state = (cluster.tokens.clone(), cluster.members.clone());
    for (what, request, now, expected) in table {
        let refused = decide(&request, cluster.id, &cluster.tokens, &cluster.members, now).unwrap_err();
        assert!(refused.to_string().contains(expected), "{what}: {refused}");
        assert_eq!(state, (cluster.tokens.clone(), cluster.members.clone()), "{what}");
        // What the joiner reads is what was decided.
        let sent = serde_json::to_string(&refused).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&sent).unwrap(), refused);
    }
    let edge = with(&|request| request.clock = NOW.minus(off(tolerance)));
    assert!(decide(&edge, cluster.id, &cluster.tokens, &cluster.members, NOW).is_ok());
    cluster.tokens.revoke(token.id);
    let refused = decide(&good, cluster.id, &cluster.tokens, &cluster.members, NOW).unwrap_err();
    assert_eq!(refused, Refusal::UnknownToken { token: token.id });
}

#[test]
fn without_the_secret_nothing_is_told() {
    let mut cluster = Cluster::new();
    let token = cluster.token();
    cluster.join(&joining(&token, "node-2"), NOW, NOW).unwrap();
    let mut guess = joining(&token, "node-2").request(UnixSeconds(0));
    guess.secret = Cluster::new().token_request_secret();
    // Used, expired, clock, name: a caller who only knows the id learns none of it.
    for now in [NOW, NOW.plus(5 * HOUR)] {
        let refused = decide(&guess, cluster.id, &cluster.tokens, &cluster.members, now).unwrap_err();
        assert_eq!(refused, Refusal::UnknownToken { token: token.id });
    }
}

impl Cluster {
    fn token_request_secret(mut self) -> constellation_identity::TokenSecret {
        let token = self.token();
        joining(&token, "x").request(NOW).secret
    }
}

#[test]
fn the_joiner_checks_what_it_gets() {
    let mut cluster = Cluster::new();
    let token = cluster.token();
    let grant_for =
        |node: &str, key: &NodeKey, at| JoinGrant::new(&cluster.certify(node, key, at), &cluster.trust());
    let other_key = NodeKey::generate().unwrap();
    let finish = |grant: &JoinGrant| joining(&token, "node-2").finish(grant, NOW).unwrap_err();
    assert!(matches!(
        finish(&grant_for("node-2", &other_key, NOW)),
        JoinError::NotOurs { .. }
    ));
    assert!(matches!(
        finish(&grant_for("node-3", &other_key, NOW)),
        JoinError::NotOurs { .. }
    ));

    let mut foreign = Cluster::new();
    let foreign_credentials = foreign.node("node-2");
    let grant = JoinGrant::new(foreign_credentials.certificate(), foreign_credentials.trust());
    assert!(matches!(finish(&grant), JoinError::Trust(_)));
    assert!(matches!(
        finish(&JoinGrant {
            authorities: vec![],
            ..grant
        }),
        JoinError::Trust(_)
    ));

    // Signed for us by an authority of the right cluster that the token does not pin.
    let second = constellation_identity::Authority::generate(cluster.id, NOW).unwrap();
    let joiner = joining(&token, "node-2");
    let request = constellation_identity::SigningRequest::parse(&joiner.request(NOW).csr).unwrap();
    let certificate = second.certify(&name("node-2"), &request, NOW, HOUR).unwrap();
    let believed =
        constellation_identity::Trust::new(cluster.id, vec![second.certificate().clone()]).unwrap();
    let error = joiner
        .finish(&JoinGrant::new(&certificate, &believed), NOW)
        .unwrap_err();
    let pin = cluster.authority.pin();
    assert!(
        matches!(error, JoinError::Pin { pin: wanted } if wanted == pin && wanted != AuthorityPin([0; 32])),
        "{error}"
    );

    // All right, but over by the joiner's clock.
    let joiner = joining(&token, "node-2");
    let grant = cluster.join(&joiner, NOW, NOW).unwrap();
    let error = joiner.finish(&grant, NOW.plus(1000 * HOUR)).unwrap_err();
    assert!(error.to_string().contains("expired at"), "{error}");
}

#[test]
fn members_renew_for_themselves_with_their_key() {
    let mut cluster = Cluster::new();
    let node = cluster.node("node-1");
    let (due, ends) = (node.certificate().renew_at(), node.certificate().ends());
    assert!(!node.certificate().renewal_due(NOW) && node.certificate().renewal_due(due));
    assert!(
        ends.apart(due) > 14 * common::DAY,
        "half of the time is left for trying"
    );

    let key = NodeKey::generate().unwrap();
    cluster.members.insert(name("node-1"), key.public_key());
    let peer = cluster.certify("node-1", &key, NOW).identity().clone();
    let request = RenewRequest {
        csr: key.signing_request().unwrap(),
    };
    let renewed = decide_renewal(&request, &peer, cluster.id, &cluster.members).unwrap();
    assert_eq!(renewed.public_key(), peer.public_key);

    let other = RenewRequest {
        csr: NodeKey::generate().unwrap().signing_request().unwrap(),
    };
    let refused = decide_renewal(&other, &peer, cluster.id, &cluster.members).unwrap_err();
    assert!(matches!(refused, Refusal::SigningRequest { .. }), "{refused}");
    // The former holder of the name, by its still valid certificate.
    let former = node.certificate().identity();
    let refused = decide_renewal(&request, former, cluster.id, &cluster.members).unwrap_err();
    assert_eq!(refused, Refusal::NotAMember { node: name("node-1") });
    let refused = decide_renewal(&request, &peer, Cluster::new().id, &cluster.members).unwrap_err();
    assert!(matches!(refused, Refusal::WrongCluster { .. }), "{refused}");
}
