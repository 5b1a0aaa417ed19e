// What a part of the weights gives.
fn NAME(part: u32, TAKES) -> KIND {
    FORMER_PARTS
    return LAST_PART;
}
