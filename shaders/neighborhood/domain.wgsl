// Which rows a workgroup owns and which key tiles it visits, for windows over up to three axes (those that are not there
// come first and have one token). A tile's rows are a box of queries of one dilation class, in in-class coordinates; its
// keys are boxes that together hold what the rows' windows do. Extra tokens follow in tiles of their own.
// A block has KEY_BOXES boxes along each axis, some of them empty where its windows are cut off: constants divide faster.
// Where the plan knows that every row sees every key of every tile, EVERY_TILE_FULL drops all that tests keys.
// A key is its in-class coordinates from the block's first key on, packed into one word; an extra token is EXTRA_FIRST + index.

const EMPTY_TILE: u32 = 0u;
const PARTIAL_TILE: u32 = 1u;
const FULL_TILE: u32 = 2u;
const NO_KEY: u32 = 0xffffffffu;
const EXTRA_FIRST: u32 = 0x80000000u;

struct Block {
    batch: u32,
    head: u32,
    kv_head: u32,
    row_first: u32,           // rows are places in the box
    row_end: u32,
    tile_first: u32,
    tile_end: u32,
    kv_end: u32,              // one past the last valid key
    part: u32,
    q_tile: u32,              // which of the boxes that the map of tiles has
    origin: vec3<u32>,        // the class: token = origin + DILATION * in-class coordinate
    len: vec3<u32>,           // tokens of the class
    query_first: vec3<u32>,
    query_end: vec3<u32>,
    key_first: vec3<u32>,
    span: vec3<u32>,          // keys that some row sees, from key_first on
    full_first: vec3<u32>,    // keys that every row sees, from key_first on
    full_end: vec3<u32>,
    k_first: u32,             // element offset of the key at key_first
    v_first: u32,
}

// A query: its token, and the keys it sees (first and last, packed; the last with its guards set).
struct Query {
    token: vec3<u32>,
    key_first: vec3<u32>,     // token of the key of coordinates 0
    window_first: u32,
    window_last: u32,
}

struct Row {
    valid: bool,
    batch: u32,
    head: u32,
    q: Query,
}

fn pack(at: vec3<u32>) -> u32 {
    return (at.x << KEY_SHIFT.x) | (at.y << KEY_SHIFT.y) | (at.z << KEY_SHIFT.z);
}

fn unpack(key: u32) -> vec3<u32> {
    return (vec3(key) >> KEY_SHIFT) & KEY_MASK;
}

// The token of a window's key.
fn key_token(q: Query, key: u32) -> vec3<u32> {
    return q.key_first + DILATION * unpack(key);
}

// The first in-class coordinates whose tokens are not before a place.
fn class_index(place: vec3<u32>, origin: vec3<u32>) -> vec3<u32> {
    return (max(place, origin) - origin + DILATION - 1u) / DILATION;
}

// Keys of a window that are bound; where there are none it begins where it ends.
fn bound_window(window: Window, origin: vec3<u32>) -> Window {
    if (!KEYS_CUT) { return window; }
    let first = class_index(keys_first(), origin);
    let end = class_index(keys_end(), origin);
    return Window(clamp(window.first, first, end), clamp(window.end, first, end));
}

fn domain_row(block: Block, r: u32) -> Row {
    let place = block.query_first + place_in(r, QUERY_BOX);
    // A table is asked about queries that are there alone.
    let index = select(place, min(place, block.query_end - 1u), HAS_TABLE);
    let window = bound_window(window_of(index, block.len, domain_window(block.head)), block.origin);
    var key_first = window.first - block.key_first;
    var key_last = window.end - 1u - block.key_first;
    if (KEYS_CUT) {
        // No key is both from 1 on and up to 0.
        let empty = window.first >= window.end;
        key_first = select(key_first, vec3(1u), empty);
        key_last = select(key_last, vec3(0u), empty);
    }
    let query = Query(
        block.origin + DILATION * index, block.origin + DILATION * block.key_first,
        pack(key_first), pack(key_last) | KEY_GUARDS,
    );
    return Row((r < QUERY_BOX_VOLUME) & all(place < block.query_end), block.batch, block.head, query);
}

fn q_offset(row: Row) -> u32 {
    return q_row(row.batch, row.head, row.q.token);
}

fn k_offset(block: Block, key: u32) -> u32 {
    if (HAS_EXTRA && key >= EXTRA_FIRST) { return extra_k_offset(block, key - EXTRA_FIRST); }
    return block.k_first + k_step(unpack(key) * DILATION);
}

fn v_offset(block: Block, key: u32) -> u32 {
    if (HAS_EXTRA && key >= EXTRA_FIRST) { return extra_v_offset(block, key - EXTRA_FIRST); }
    return block.v_first + v_step(unpack(key) * DILATION);
}

fn domain_key(block: Block, tile: u32, c: u32) -> u32 {
    if (HAS_EXTRA && tile >= WINDOW_TILES) {
        let extra = (tile - WINDOW_TILES) * TILE_KV + c;
        return select(NO_KEY, EXTRA_FIRST + extra, extra < params.extra);
    }
    let at = place_in(tile, KEY_BOXES) * KEY_BOX + place_in(c, KEY_BOX);
    if (EVERY_TILE_FULL) { return pack(at); }
    return select(NO_KEY, pack(at), (c < KEY_BOX_VOLUME) & all(at < block.span));
}

fn window_keeps(q: Query, key: u32) -> bool {
    let inside = ((key | KEY_GUARDS) - q.window_first) & (q.window_last - key) & KEY_GUARDS;
    return (inside == KEY_GUARDS) | (HAS_EXTRA & (key >= EXTRA_FIRST));
}

// What the windows alone say of a tile.
fn domain_form_state(block: Block, tile: u32) -> u32 {
    if (HAS_EXTRA && tile >= WINDOW_TILES) {
        return select(PARTIAL_TILE, FULL_TILE, (tile - WINDOW_TILES + 1u) * TILE_KV <= params.extra);
    }
    let first = place_in(tile, KEY_BOXES) * KEY_BOX;
    if (any(first >= block.span)) { return EMPTY_TILE; }
    let full = all(first >= block.full_first) & all(first + KEY_BOX <= block.full_end);
    return select(PARTIAL_TILE, FULL_TILE, full & (KEY_BOX_VOLUME == TILE_KV) & !HAS_MASK_MOD);
}

fn row_is_owned(row: Row) -> bool {
    return true;
}

struct RowPlace { batch: u32, place: Place }

// Where a row lies in q and in what is written.
fn row_place(row: Row) -> RowPlace {
    return RowPlace(row.batch, row.q.token);
}

// The last key that some row sees. Where there is none every tile is empty.
fn span_last(block: Block) -> vec3<u32> {
    if (KEYS_CUT) { return max(block.span, vec3(1u)) - 1u; }
    return block.span - 1u;
}

fn domain_block(workgroup: u32) -> Block {
    let index = workgroup + params.workgroup_first;
    let split = split_of(index);
    let number = split.block;
    let boxes = slice_boxes();
    let box_count = boxes.x * boxes.y * boxes.z;
    let class_number = number / box_count;
    let head_number = class_number / CLASSES;
    var block: Block;
    block.part = params.part_first + split.index;
    block.row_end = TILE_Q;
    block.q_tile = number % params.map_boxes;
    block.head = params.head_first + head_number % params.heads;
    block.batch = params.batch_first + head_number / params.heads;
    block.kv_head = block.head / GROUP_SIZE;
    block.origin = place_in(class_number % CLASSES, DILATION);
    block.len = (domain_extents() - block.origin + DILATION - 1u) / DILATION;
    // The first box may begin before the class.
    let place = (box_first() + place_in(number % box_count, boxes)) * QUERY_BOX;
    block.query_first = max(place, BOX_PAD) - BOX_PAD;
    block.query_end = min(place + QUERY_BOX - BOX_PAD, block.len);
    if (QUERIES_CUT) {
        block.query_first = max(block.query_first, class_index(slice_first(), block.origin));
        block.query_end = min(block.query_end, class_index(slice_first() + slice_sides(), block.origin));
    }
    // The surplus of a folded grid, and boxes that a shorter class does not have: no rows, no tiles.
    if (index >= params.workgroups || any(block.query_first >= block.query_end)) {
        block.query_end = vec3(0u);
        block.row_end = 0u;
        return block;
    }
    let window = domain_window(block.head);
    let low = bound_window(window_of(block.query_first, block.len, window), block.origin);
    let high = bound_window(window_of(block.query_end - 1u, block.len, window), block.origin);
    block.key_first = low.first;
    block.span = high.end - low.first;
    block.full_first = high.first - low.first;
    block.full_end = low.end - low.first;
    block.tile_end = WINDOW_TILES;
    if (WINDOWS_DIFFER && !HAS_EXTRA) {
        // A smaller window has its last tile earlier.
        let last = span_last(block) / KEY_BOX;
        block.tile_end = (last.x * KEY_BOXES.y + last.y) * KEY_BOXES.z + last.z + 1u;
    }
    block.kv_end = pack(span_last(block)) + 1u;
    if (HAS_EXTRA && params.extra > 0u) {
        block.tile_end += (params.extra + TILE_KV - 1u) / TILE_KV;
        block.kv_end = EXTRA_FIRST + params.extra;
    }
    let token = block.origin + DILATION * block.key_first;
    block.k_first = k_row(block.batch, block.kv_head, token);
    block.v_first = v_row(block.batch, block.kv_head, token);
    if (GATE_SKIPS && block_gated_off(block)) { block.tile_end = 0u; }
    if (SPLIT_KEYS) {
        let tiles = split_tiles(split.index, 0u, block.tile_end);
        block.tile_first = tiles.x;
        block.tile_end = tiles.y;
    }
    return block;
}
