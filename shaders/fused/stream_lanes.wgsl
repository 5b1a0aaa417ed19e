// What the lanes of the streaming family exchange by shuffles.

// Halves the rows each lane still sums: the partner's partial j + step belongs to the row of the own partial j.
fn scatter(sums: ptr<function, array<array<f32, SPREAD>, STATS>>, step: u32) {
    if (step < SPREAD) {
        for (var g = 0u; g < STATS; g++) {
            for (var j = 0u; j < step; j++) { (*sums)[g][j] += subgroupShuffleXor((*sums)[g][j + step], step); }
        }
    }
}

// Fewer rows than lanes: the lanes that share a row add up theirs.
fn fold(sums: ptr<function, array<array<f32, SPREAD>, STATS>>, step: u32) {
    if (step >= SPREAD && step < LANES) { (*sums)[0][0] += subgroupShuffleXor((*sums)[0][0], step); }
}

// Adds to a group's sums those of the group so many lanes away, where both own the same rows.
fn merge_groups(
    step: u32, m: ptr<function, array<f32, STATS>>, l: ptr<function, array<f32, STATS>>,
    out: ptr<function, array<array<array<vec4<f32>, VALUE_STEPS>, SPREAD>, STATS>>,
) {
    if (step < LANES * KEY_GROUPS) {
        for (var g = 0u; g < STATS; g++) {
            let lift = lifted((*m)[g], subgroupShuffleXor((*m)[g], step));
            let rescale = lift.rescale;
            (*m)[g] = lift.m;
            let sum = (*l)[g] * rescale;
            (*l)[g] = sum + subgroupShuffleXor(sum, step);
            for (var j = 0u; j < SPREAD; j++) {
                let row_rescale = subgroupShuffleXor(rescale, j);
                for (var d = 0u; d < VALUE_STEPS; d++) {
                    let part = (*out)[g][j][d] * row_rescale;
                    (*out)[g][j][d] = part + subgroupShuffleXor(part, step);
                }
            }
        }
    }
}
