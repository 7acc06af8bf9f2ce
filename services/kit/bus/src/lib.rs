//! Publish and consume over JetStream: the only crate that names the NATS client.
//!
//! Every call has a deadline, every wait a bound, and every refusal of the server is an error that
//! the caller can tell apart. Readers use ordered consumers without acknowledgements.
//!
//! Not here: what is published, and to whom (`schemas` builds every subject), or any decision.

mod connect;
mod error;
mod follow;
mod publish;
mod serve;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;

pub use connect::{Bus, Connect, SERVER_MIN_TEXT, Security, Subscription, new_enough};
pub use error::{BusError, FollowError, PublishError, RequestError};
pub use follow::{Follow, Message};
pub use publish::{Ack, Expect};
pub use serve::{Request, Served};
pub use stream::StreamState;
