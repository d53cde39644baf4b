//! Latencies in a log-linear histogram: 32 steps for each power of two, so every figure is good to about 3 %.

use std::time::Duration;

/// Bits of a value kept below its highest one.
const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;

pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram { buckets: vec![0; (65 - STEP_BITS as usize) << STEP_BITS], count: 0, max: 0 }
    }

    pub fn add(&mut self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        self.buckets[bucket_of(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// Microseconds at the quantile `q` (0 to 1).
    pub fn micros_at(&self, q: f64) -> f64 {
        let wanted = (self.count as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return start_of(bucket) as f64 / 1000.0;
            }
        }
        self.max as f64 / 1000.0
    }

    /// The members of a JSON object, without its braces.
    pub fn json(&self) -> String {
        if self.count == 0 {
            return r#""p50_us":null,"p90_us":null,"p99_us":null,"max_us":null"#.to_string();
        }
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| self.micros_at(q));
        let max = self.max as f64 / 1000.0;
        format!(r#""p50_us":{p50:.1},"p90_us":{p90:.1},"p99_us":{p99:.1},"max_us":{max:.1}"#)
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = 63 - nanos.leading_zeros() - STEP_BITS;
    let step = (nanos >> shift) & (STEPS - 1);
    ((u64::from(shift + 1) << STEP_BITS) + step) as usize
}

fn start_of(bucket: usize) -> u64 {
    let power = bucket >> STEP_BITS;
    let step = bucket as u64 & (STEPS - 1);
    match power {
        0 => step,
        _ => (step + STEPS) << (power - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|micros| histogram.add(Duration::from_micros(micros)));
        assert!((histogram.micros_at(0.5) - 500.0).abs() < 20.0);
        assert!((histogram.micros_at(0.99) - 990.0).abs() < 35.0);
    }

    #[test]
    fn buckets_hold_their_start_and_grow() {
        for nanos in [0, 1, 31, 32, 33, 63, 64, 1_000_000, u64::MAX] {
            assert!(start_of(bucket_of(nanos)) <= nanos, "{nanos}");
        }
        assert!(bucket_of(u64::MAX) < Histogram::new().buckets.len());
    }
}
