// Where a token lies in its image, row-major, and back.

fn place_number(token: vec3<u32>) -> u32 {
    let extents = domain_extents();
    return (token.x * extents.y + token.y) * extents.z + token.z;
}

fn place_of(number: u32) -> vec3<u32> {
    return place_in(number, domain_extents());
}
