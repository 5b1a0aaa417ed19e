// Keys in pages that a table names: by page and row of the page. Whatever the table holds, a page that exists is read.

fn kv_place(b: u32, key: u32) -> vec2<u32> {
    let page = u32(max(page_at(b, key / PAGE_SIZE), 0));
    return vec2(min(page, params.pages - 1u), key % PAGE_SIZE);
}
