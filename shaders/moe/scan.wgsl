// Running sums over a workgroup's lanes.
var<workgroup> wg_scan: array<u32, WORKGROUP_SIZE>;

// The sum over the lanes up to and with this one. Ends with a barrier: wg_scan may be read until the next call.
fn running_sum(lane: u32, value: u32) -> u32 {
    workgroupBarrier(); // the last sums have been read
    wg_scan[lane] = value;
    workgroupBarrier(); // all values are there
    for (var step = 1u; step < WORKGROUP_SIZE; step *= 2u) {
        let before = select(0u, wg_scan[max(lane, step) - step], lane >= step);
        workgroupBarrier(); // read before it is written
        wg_scan[lane] += before;
        workgroupBarrier(); // written before it is read
    }
    return wg_scan[lane];
}
