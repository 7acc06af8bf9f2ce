//! HTTP: each request goes to a replica by itself, whatever connection of the client it came on.
//!
//! [`serve`] speaks with clients, over HTTP/1.1 and HTTP/2; [`exchange`] finds a replica for a request, and
//! another one when that is of no use; [`lane`] and [`lanes`] are the connections to replicas, which are
//! kept; [`headers`] and [`retry`] are the rules. Bodies go through as they arrive ([`sent`],
//! [`answer`]); [`streams`] moves the requests of one HTTP/2 connection along, [`alarm`] says what is late.
//!
//! Not here: which replicas there are, and which of them is next.

pub(crate) mod alarm;
pub(crate) mod answer;
pub(crate) mod exchange;
pub(crate) mod headers;
pub(crate) mod lane;
pub(crate) mod lanes;
pub(crate) mod limit;
pub(crate) mod retry;
pub(crate) mod routes;
pub(crate) mod sent;
pub(crate) mod serve;
pub(crate) mod stick;
pub(crate) mod streams;
pub(crate) mod tunnel;
