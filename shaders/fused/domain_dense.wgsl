// Which rows a workgroup owns and which key tiles it visits. Where queries and keys lie is said by q_place and kv_place.
// A tile's rows are queries; with GROUP_ROWS > 1 also the query heads that share a key head, with BATCH_ROWS also the
// batches (that share a prefix), so that few queries still fill a tile.

const EMPTY_TILE: u32 = 0u;
const PARTIAL_TILE: u32 = 1u;
const FULL_TILE: u32 = 2u;

struct Block {
    batch: u32,
    head: u32,       // first query head
    kv_head: u32,
    query_first: u32, // the query of row 0
    row_first: u32,
    row_end: u32,
    tile_first: u32,
    tile_end: u32,
    kv_end: u32,     // keys from here on do not exist, or not for this pass
    part: u32,       // which of the row's partial results this is
    q_tile: u32,     // which of the tiles of rows that the map of tiles has
}

struct Row {
    valid: bool,
    batch: u32,
    head: u32,
    q: u32,
}

fn pos_q(b: u32, q: u32) -> i32 {
    if (HAS_Q_OFFSET) { return i32(q) + params.q_offset; }
    return i32(q) + i32(own_len(b)) - i32(q_len(b));
}

fn domain_row(block: Block, r: u32) -> Row {
    let p = block.row_first + r;
    var row = Row(p < block.row_end, block.batch, block.head, p);
    if (GROUP_ROWS > 1u) {
        row.head = block.head + p % GROUP_ROWS;
        row.q = p / GROUP_ROWS;
    }
    if (BATCH_ROWS) {
        row.batch = params.batch_first + row.q / params.queries;
        row.q = row.q % params.queries;
    }
    if (QUERIES_CUT) { row.q += block.query_first; }
    return row;
}

// Whether some sequence owns the row: packed tensors may have more.
fn row_is_owned(row: Row) -> bool {
    return has_sequence(row.batch);
}

struct RowPlace { batch: u32, place: Place }

// Where a row lies in q and in what is written.
fn row_place(row: Row) -> RowPlace {
    let at = q_place(row.batch, row.q);
    return RowPlace(at.x, at.y);
}

fn q_offset(row: Row) -> u32 {
    let at = q_place(row.batch, row.q);
    return q_row(at.x, row.head, at.y);
}

fn k_offset(block: Block, key: u32) -> u32 {
    let at = kv_place(block.batch, key);
    return k_row(at.x, block.kv_head, at.y);
}

fn v_offset(block: Block, key: u32) -> u32 {
    let at = kv_place(block.batch, key);
    return v_row(at.x, block.kv_head, at.y);
}

fn domain_key(block: Block, tile: u32, c: u32) -> u32 {
    return tile * TILE_KV + c;
}

// First and last query of the block, and how many heads it spans.
struct Queries { first: u32, last: u32, heads: u32 }

fn domain_queries(block: Block) -> Queries {
    let last = min(block.row_first + TILE_Q, block.row_end) - 1u;
    let first = block.query_first;
    if (BATCH_ROWS) { return Queries(first, first + params.queries - 1u, GROUP_ROWS); }
    return Queries(first + block.row_first / GROUP_ROWS, first + last / GROUP_ROWS, GROUP_ROWS);
}

// Keys that any row of the block may see, as far as the mask's form tells.
fn domain_keys(block: Block) -> vec2<i32> {
    let queries = domain_queries(block);
    var keys = mask_range(block.batch, block.head, queries.first, queries.last);
    if (MASK_BY_HEAD) {
        for (var h = 1u; h < queries.heads; h++) {
            keys = mask_hull(keys, mask_range(block.batch, block.head + h, queries.first, queries.last));
        }
    }
    return clamp(keys, vec2(i32(kv_first(block.batch))), vec2(i32(block.kv_end)));
}

fn domain_block(workgroup: u32) -> Block {
    let index = workgroup + params.workgroup_first;
    var block: Block;
    let split = split_of(index);
    block.part = params.part_first + split.index;
    let tile = split.block;
    let q_tile = tile % params.q_tiles;
    let group = tile / params.q_tiles;
    let kv_group = group % params.head_groups;
    block.head = params.head_first + kv_group * GROUP_ROWS;
    block.kv_head = block.head / GROUP_SIZE;
    let last_first = params.q_tiles - 1u - q_tile; // the last rows see most keys under a causal mask: they start first
    let rows = row_tile(params.batch_first + group / params.head_groups, last_first);
    block.batch = rows.batch;
    block.query_first = rows.query_first;
    block.row_first = rows.row_first;
    block.row_end = rows.row_end;
    var map_group = 0u;
    if (MAP_BY_BATCH) { map_group = group / params.head_groups; }
    if (MAP_BY_HEAD) { map_group = map_group * params.head_groups + kv_group; }
    block.q_tile = map_group * params.q_tiles + last_first;
    if (index >= params.workgroups) { block.row_end = block.row_first; } // surplus of a folded grid
    if (block.row_first >= block.row_end) { return block; } // no rows, no tiles
    if (!has_sequence(block.batch)) { return block; }
    block.kv_end = kv_end(block.batch);
    if (kv_first(block.batch) >= block.kv_end) { return block; }
    if (GATE_SKIPS && block_gated_off(block)) { return block; }
    let keys = domain_keys(block);
    if (keys.x >= keys.y) { return block; }
    let tiles = split_tiles(split.index, u32(keys.x) / TILE_KV, (u32(keys.y) + TILE_KV - 1u) / TILE_KV);
    block.tile_first = tiles.x;
    block.tile_end = tiles.y;
    return block;
}

// What the mask's form alone says of a tile; one that ends beyond the last key is never full.
fn domain_form_state(block: Block, tile: u32) -> u32 {
    let queries = domain_queries(block);
    let key = tile * TILE_KV;
    let key_last = min(key + TILE_KV, block.kv_end) - 1u;
    var state = mask_tile(block.batch, block.head, queries.first, queries.last, key, key_last);
    if (MASK_BY_HEAD) {
        for (var h = 1u; h < queries.heads; h++) {
            if (mask_tile(block.batch, block.head + h, queries.first, queries.last, key, key_last) != state) { state = PARTIAL_TILE; }
        }
    }
    if (state == FULL_TILE && (tile + 1u) * TILE_KV > block.kv_end) { return PARTIAL_TILE; }
    return state;
}
