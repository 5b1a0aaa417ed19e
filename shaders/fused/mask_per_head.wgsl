// A mask of its own for each head.
    var said: KIND;
    switch (h) {
    CASES
    }
    return said;
