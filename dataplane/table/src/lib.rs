//! The pure routing core: which route, which service, which endpoints, and why the others lost.
//!
//! Data moves one way: `compile` (in the agent) builds [`RouterSpec`]s and [`Service`]s, [`Snapshot::build`] sorts and
//! indexes them into one immutable generation, and [`decide`] reads it. Nothing here awaits, allocates on the common
//! path, knows a clock or touches a socket, so the proxy, `explain`, dry runs and the tests all ask the same function.

pub mod balance;
mod decide;
mod explain;
pub mod host;
mod index;
mod live;
pub mod path;
pub mod policy;
mod query;
pub mod regexp;
mod request;
pub mod rule;
mod service;
mod snapshot;
mod stream;
mod target;
mod text;
mod view;

pub use decide::{
    Candidate, Candidates, Choice, Decision, decide, decide_here, decide_service, decide_stream,
    decide_stream_here, decide_target,
};
pub use explain::{
    AskedConnection, AskedRequest, Considered, EndpointLine, EntryPointLine, ExcludedLine, Explanation,
    FurtherLine, HttpsLine, MiddlewareLine, MiddlewareVerdict, MirrorLine, NearMiss, Outcome, Precedence,
    RefusalLine, RouterLine, StreamExplanation, StreamKind, StreamOutcome, Verdict, WayLine, explain,
    explain_tcp, explain_udp,
};
pub use live::{
    BreakerState, CheckState, LastFailure, Live, Outcome as AttemptOutcome, OutlierState, Probe, Running,
    ServiceLive, Standing, Transition, Transitions, WindowCounts,
};
pub use policy::Policy;
pub use request::{RequestMeta, Turn};
pub use rule::{Rule, RuleError, TcpRule};
pub use service::{
    Carried, Condition, Departure, Endpoint, EndpointSpec, Locality, Peer, Pem, ProxyProtocolVersion, Reach,
    Scheme, Service, ServiceSpec, Slot, StreamTransport, Timeouts, Transport,
};
pub use snapshot::{Action, EntryPointId, Redirect, Router, RouterSpec, Snapshot, Steps};
pub use stream::{
    ConnectionMeta, InFlightConn, IpAllowList, Shadow, Shadowed, TcpDecision, TcpMiddleware, TcpRouter,
    TcpRouterSpec, TcpTls, UdpDecision, UdpRouter, UdpRouterSpec, decide_tcp, decide_udp,
};
pub use target::{
    Child, Definition, Failover, FailoverErrors, FailoverSpec, HighestRandomWeight, HighestRandomWeightSpec,
    Leg, MAX_DEPTH, MAX_LEAVES, Mirror, Mirrored, Mirroring, MirroringSpec, Nesting, NestingError, Step,
    Target, TargetError, Via, Way, Weighted, WeightedSpec, nesting,
};
pub use view::{Exclusion, Usable, View, ViewRef};
