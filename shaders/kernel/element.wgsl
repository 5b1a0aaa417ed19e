// An element of an extra input.
fn NAME_get(i: u32) -> KIND {
    let at = params.NAME_first + i;
    return ELEMENT;
}
