//! What a capture says of the run as a whole.

use std::time::Duration;

use crate::{
    capture::{self, Header},
    kernel::Tier,
};

/// What the header says.
pub struct About {
    /// RFC 3339.
    pub started: String,
    pub target: String,
    pub interval: Duration,
    pub tier: Tier,
    /// Of so many allocated bytes one is sampled; 0: every block is reported.
    pub sample_bytes: i64,
    /// How much slower tracing may make the target.
    pub max_overhead: Option<f64>,
    /// What a probe costs was measured when the run began.
    pub is_calibrated: bool,
    /// The zero of the capture's times.
    pub started_ns: u64,
    /// Names of the functions of the user's own pools.
    pub pools: Vec<String>,
}

impl About {
    /// The first row.
    pub fn header(&self) -> Header {
        let system = rustix::system::uname();
        Header {
            schema: capture::SCHEMA.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.clone(),
            host: system.nodename().to_string_lossy().into_owned(),
            kernel: system.release().to_string_lossy().into_owned(),
            interval_s: self.interval.as_secs_f64(),
            target: self.target.clone(),
            tier: self.tier.name().to_owned(),
            sample_bytes: self.sample_bytes,
            max_overhead: self.max_overhead,
            is_calibrated: self.is_calibrated,
        }
    }
}
