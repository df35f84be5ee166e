//! What the client tells beside messages.

use rdkafka::{
    ClientContext,
    consumer::{BaseConsumer, ConsumerContext},
};

/// The consumer with its context.
pub(super) type Client = BaseConsumer<Context>;

/// Hears of a rebalance before and after it, on the thread that polls. The binding's defaults hold: partitions come and go as
/// the group says, and nobody is told.
pub(super) struct Context;

impl ClientContext for Context {}

impl ConsumerContext for Context {}
