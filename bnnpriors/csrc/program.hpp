// A lowered layer program, as `bnnpriors.infinite.lowering` writes it. The layout of these structures is that of its ctypes.
#pragma once
#include <cstdint>

enum Kind : int32_t { INPUT, WINDOW, TERMS, READOUT };
enum Activation : int32_t { NONE, RELU, ERF, GELU, MEANS };

// The sum over a box of taps, height x width, that begins at tap (y, x), of entries between positions (dy, dx) apart.
struct Term {
    int32_t dy, dx, y, x, height, width;
    double weight;
};

// target = f(weight * (sum over a window, or over weighted terms) + bias) + added.
struct Operation {
    int32_t kind, source, target, added;   // slots; added < 0: nothing
    int32_t in_height, in_width, out_height, out_width;  // of equal positions
    int32_t size[2], stride[2], dilation[2], padding[2];
    int32_t activation, map, first, count;  // map: where its positions begin in the maps; first, count: terms, or ranges of them
    double weight, bias, slope;
};

// Operations that run for one offset after another.
struct Segment {
    int32_t first_operation, operations, first_offset, offsets;
};

// A slot that keeps its values for many offsets: where those of each begin, in positions; -1 where there are none.
struct Store {
    int64_t table;
    int32_t reach_y, reach_x, accumulates, unused;
    int64_t begin, size;
};

struct Program {
    const Operation* operations;
    const Term* terms;
    const int32_t* ranges;
    const Segment* segments;
    const int32_t* offsets;  // dy, dx
    const Store* stores;
    const int64_t* tables;
    int64_t local_size, store_size, line_size, plane_size;  // positions
    int32_t segments_count, stores_count, locals, result, outputs, channels, positions_y, positions_x;
    int64_t maps;  // positions
};

// What is known of each image by itself. Broadcast: [images, channels, positions], [images, maps, 2].
// In lanes: [blocks, channels, positions, lanes], [blocks, maps, 2, lanes].
template <class T>
struct Side {
    const T *inputs, *maps, *inputs_in_lanes, *maps_in_lanes;
    int64_t images;
};
