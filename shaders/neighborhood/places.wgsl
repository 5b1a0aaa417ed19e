// Where a token lies in its image, and in its slice, row-major, and back.

fn token_number(token: vec3<u32>) -> u32 {
    return number_in(token, domain_extents());
}

fn place_number(token: vec3<u32>) -> u32 {
    return number_in(token - slice_first(), slice_sides());
}

fn place_of(number: u32) -> vec3<u32> {
    return slice_first() + place_in(number, slice_sides());
}
