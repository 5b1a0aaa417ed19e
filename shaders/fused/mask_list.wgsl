// A list of masks is one: a statement for each.
    var WHAT = FIRST;
    OTHERS
    return WHAT;
