//! The device's own clock: timestamps at both ends of compute passes.

use super::context::Gpu;
use super::signal::Waiting;
use crate::error::{Error, GpuError};

/// Pairs of timestamps, each the begin and the end of something.
pub(crate) struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    pairs: u32,
}

/// What a query set holds at most in WebGPU.
const MOST_QUERIES: u32 = 4096;

impl Stamps {
    /// `None` where the device writes no timestamps, or not so many.
    pub async fn new(gpu: &Gpu, pairs: u32) -> Result<Option<Self>, GpuError> {
        let offered = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        if !offered || 2 * pairs > MOST_QUERIES {
            return Ok(None);
        }
        let descriptor = wgpu::QuerySetDescriptor {
            label: Some("tilewise"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * pairs,
        };
        let create = || gpu.device.create_query_set(&descriptor);
        let queries = gpu.guarded_async("timestamps", create).await?;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.buffer("timestamps", 16 * u64::from(pairs), usage).await?;
        Ok(Some(Self { queries, resolved, pairs }))
    }

    /// Of a pass that begins what `begun` counts and ends what `ended` counts.
    pub fn of_pass(
        &self,
        begun: Option<u32>,
        ended: Option<u32>,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        (begun.is_some() || ended.is_some()).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: begun.map(|pair| 2 * pair),
            end_of_pass_write_index: ended.map(|pair| 2 * pair + 1),
        })
    }

    /// After the last pass.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.pairs, &self.resolved, 0);
    }

    /// Milliseconds of each pair, after what was submitted is done.
    pub async fn read(&self, gpu: &Gpu, waiting: Waiting) -> Result<Vec<f64>, Error> {
        let bytes = gpu.download(&self.resolved, ..16 * u64::from(self.pairs), waiting).await?;
        let ticks: Vec<u64> = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        let period = f64::from(gpu.queue.get_timestamp_period());
        let lasted = |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * period / 1e6;
        Ok(ticks.chunks_exact(2).map(lasted).collect())
    }
}
