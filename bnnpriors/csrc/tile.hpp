// The program for one image with a vector of others: included once for each instruction set, after simd.hpp.

struct Region {
    int height, width;
};

struct Box {
    int size[2], stride[2], dilation[2], padding[2];
};

constexpr int SLIDING = 6;   // windows from this size on are running sums
constexpr int RESTART = 32;  // which begin anew now and then, so that rounding does not add up

// The rows of one window position summed, with zeros on both sides as far as the window reaches over.
template <class T>
TARGET static const Vec<T>* column_sums(
    const Vec<T>* in, Region region, const Box& box, int row, int before, int after, Vec<T>* sums, bool slides
) {
    const int width = region.width, step = box.dilation[0], start = row * box.stride[0] - box.padding[0];
    int low = start < 0 ? (-start + step - 1) / step : 0;
    int high = start >= region.height ? 0 : (region.height - 1 - start) / step + 1;
    if (high > box.size[0]) high = box.size[0];
    const int rows = high > low ? high - low : 0;
    const Vec<T>* first = in + (int64_t)(start + low * step) * width;
    const int64_t stride = (int64_t)step * width;
    if (rows == 1 && !before && !after && !slides) return first;
    Vec<T>* middle = sums + before;
    if (slides && row % RESTART) {
        const int entering = start + box.size[0] - 1, leaving = start - 1;
        const Vec<T>*in1 = in + (int64_t)entering * width, *out1 = in + (int64_t)leaving * width;
        const bool enters = entering >= 0 && entering < region.height, leaves = leaving >= 0 && leaving < region.height;
        if (enters && leaves) for (int x = 0; x < width; x++) middle[x] += in1[x] - out1[x];
        else if (enters) for (int x = 0; x < width; x++) middle[x] += in1[x];
        else if (leaves) for (int x = 0; x < width; x++) middle[x] -= out1[x];
        return sums;
    }
    for (int x = 0; x < before; x++) sums[x] = Vec<T>{};
    for (int x = 0; x < after; x++) middle[width + x] = Vec<T>{};
    if (rows == 3) for (int x = 0; x < width; x++) middle[x] = first[x] + first[x + stride] + first[x + 2 * stride];
    else if (rows == 2) for (int x = 0; x < width; x++) middle[x] = first[x] + first[x + stride];
    else if (rows == 4)
        for (int x = 0; x < width; x++)
            middle[x] = (first[x] + first[x + stride]) + (first[x + 2 * stride] + first[x + 3 * stride]);
    else
        for (int x = 0; x < width; x++) {
            Vec<T> sum{};
            for (int t = 0; t < rows; t++) sum += first[x + t * stride];
            middle[x] = sum;
        }
    return sums;
}

template <class T, int SIZE>
TARGET static void add_neighbours(const Vec<T>* row, int stride, int dilation, int count, Vec<T>* line) {
    for (int x = 0; x < count; x++) {
        const Vec<T>* at = row + x * stride;
        Vec<T> sum = at[0];
#pragma GCC unroll 8
        for (int t = 1; t < SIZE; t++) sum += at[t * dilation];
        line[x] = sum;
    }
}

// The sums of a row of window positions: in `line`, or where they already are.
template <class T>
TARGET static const Vec<T>* row_sums(const Vec<T>* row, const Box& box, int count, Vec<T>* line) {
    const int size = box.size[1], stride = box.stride[1], dilation = box.dilation[1];
    if (size == 1 && stride == 1) return row;
    if (size == 1) add_neighbours<T, 1>(row, stride, dilation, count, line);
    else if (size == 2) add_neighbours<T, 2>(row, stride, dilation, count, line);
    else if (size == 3) add_neighbours<T, 3>(row, stride, dilation, count, line);
    else if (size == 4) add_neighbours<T, 4>(row, stride, dilation, count, line);
    else if (size == 5) add_neighbours<T, 5>(row, stride, dilation, count, line);
    else if (stride == 1 && dilation == 1) {
        for (int begin = 0; begin < count; begin += RESTART) {
            const int end = begin + RESTART < count ? begin + RESTART : count;
            Vec<T> sum{};
            for (int t = 0; t < size; t++) sum += row[begin + t];
            line[begin] = sum;
            for (int x = begin + 1; x < end; x++) line[x] = sum += row[x + size - 1] - row[x - 1];
        }
    } else
        for (int x = 0; x < count; x++) {
            Vec<T> sum{};
            for (int t = 0; t < size; t++) sum += row[x * stride + t * dilation];
            line[x] = sum;
        }
    return line;
}

// Where the columns of a row of box positions, summed over the rows of each, begin.
template <class T>
INLINE const Vec<T>* columns_of(
    const Vec<T>* in, Region region, const Box& box, int row, int count, Vec<T>* sums, bool slides
) {
    const int start = -box.padding[1], end = start + (count - 1) * box.stride[1] + (box.size[1] - 1) * box.dilation[1];
    const int before = start < 0 ? -start : 0, after = end >= region.width ? end - region.width + 1 : 0;
    return column_sums<T>(in, region, box, row, before, after, sums, slides) + before + start;
}

template <class T, int SIZE>
TARGET static void add_weighted(const Vec<T>* row, T weight, int count, Vec<T>* total) {
    for (int x = 0; x < count; x++) {
        Vec<T> sum = row[x];
        if (SIZE > 1) sum += row[x + 1];
        if (SIZE > 2) sum += row[x + 2];
        total[x] += sum * weight;
    }
}

template <class T>
struct Tile {
    const Program& program;
    const Side<T>&rows, &columns;
    Vec<T>*line, *sums, *plane;

    TARGET Vec<T>* at(Vec<T>* memory, int slot, int dy, int dx) const {
        if (slot < program.locals) return memory + slot * program.local_size;
        const Store& store = program.stores[slot - program.locals];
        if (std::abs(dy) > store.reach_y || std::abs(dx) > store.reach_x) return nullptr;
        const int64_t entry = (dy + store.reach_y) * (int64_t)(2 * store.reach_x + 1) + dx + store.reach_x;
        const int64_t begin = program.tables[store.table + entry];
        return begin < 0 ? nullptr : memory + program.locals * program.local_size + begin;
    }

    TARGET static Region left(int height, int width, int dy, int dx) {
        const int h = height - std::abs(dy), w = width - std::abs(dx);
        return {h > 0 ? h : 0, w > 0 ? w : 0};
    }

    TARGET void start(const Operation& op, int row, int64_t block, int dy, int dx, Vec<T>* out) const {
        const Region region = left(op.out_height, op.out_width, dy, dx);
        const int64_t positions = (int64_t)program.positions_y * program.positions_x;
        const T* own = rows.inputs + row * program.channels * positions;
        const Vec<T>* others = (const Vec<T>*)columns.inputs_in_lanes + block * program.channels * positions;
        const T scale = (T)(1.0 / program.channels);
        for (int y = 0; y < region.height; y++) {
            const int64_t p = (y + (dy < 0 ? -dy : 0)) * (int64_t)op.out_width + (dx < 0 ? -dx : 0);
            const int64_t q = p + dy * (int64_t)op.out_width + dx;
            for (int x = 0; x < region.width; x++, out++) {
                Vec<T> sum{};
                for (int64_t c = 0; c < program.channels; c++) sum += own[c * positions + p + x] * others[c * positions + q + x];
                *out = sum * scale;
            }
        }
    }

    // The box of a term, as seen from the positions (dy, dx) apart at which its sums are wanted.
    TARGET static Box box_of(const Operation& op, const Term& term, int dy, int dx, int from_dy, int from_dx) {
        const int down = dy < 0 ? -dy : 0, right = dx < 0 ? -dx : 0;
        const int shift_y = from_dy < 0 ? -from_dy : 0, shift_x = from_dx < 0 ? -from_dx : 0;
        return {{term.height, term.width}, {op.stride[0], op.stride[1]}, {op.dilation[0], op.dilation[1]},
                {op.padding[0] + shift_y - down * op.stride[0] - term.y * op.dilation[0],
                 op.padding[1] + shift_x - right * op.stride[1] - term.x * op.dilation[1]}};
    }

    // total += weight * the sums over a box, at all rows of a plane.
    TARGET void add_box(const Vec<T>* in, Region from, const Box& box, T weight, Region region, Vec<T>* total) const {
        for (int y = 0; y < region.height; y++, total += region.width) {
            const Vec<T>* row = columns_of<T>(in, from, box, y, region.width, sums, false);
            const int size = box.stride[1] == 1 && (box.dilation[1] == 1 || box.size[1] == 1) ? box.size[1] : 0;
            if (size == 1) add_weighted<T, 1>(row, weight, region.width, total);
            else if (size == 2) add_weighted<T, 2>(row, weight, region.width, total);
            else if (size == 3) add_weighted<T, 3>(row, weight, region.width, total);
            else add_weighted<T, 1>(row_sums<T>(row, box, region.width, line), weight, region.width, total);
        }
    }

    TARGET void add_terms(const Operation& op, Vec<T>* memory, int dy, int dx, Region region) const {
        for (int64_t p = 0; p < (int64_t)region.height * region.width; p++) plane[p] = Vec<T>{};
        for (const Term *term = program.terms + op.first, *end = term + op.count; term < end; term++) {
            const int from_dy = dy * op.stride[0] + term->dy, from_dx = dx * op.stride[1] + term->dx;
            const Vec<T>* in = at(memory, op.source, from_dy, from_dx);
            const Region from = left(op.in_height, op.in_width, from_dy, from_dx);
            if (in && from.height && from.width)
                add_box(in, from, box_of(op, *term, dy, dx, from_dy, from_dx), (T)term->weight, region, plane);
        }
    }

    TARGET void read_out(const Operation& op, int offset, int dy, int dx, Vec<T>* memory) const {
        const int32_t* range = program.ranges + op.first + offset;
        const Region region = left(op.in_height, op.in_width, dy, dx);
        if (!region.height || !region.width) return;
        const Vec<T>* in = at(memory, op.source, dy, dx);
        for (int i = range[0]; i < range[1]; i++) {
            const Term& term = program.terms[i];
            const Box box = box_of(op, term, 0, 0, dy, dx);
            Vec<T>* out = at(memory, op.target, 0, 0);
            if (op.count) out += i - program.ranges[op.first];  // a value for each term
            add_box(in, region, box, (T)term.weight, {op.out_height, op.out_width}, out);
        }
    }

    TARGET void apply(const Operation& op, int row, int64_t block, int offset, int dy, int dx, Vec<T>* memory) const {
        if (op.kind == INPUT) return start(op, row, block, dy, dx, at(memory, op.target, dy, dx));
        if (op.kind == READOUT) return read_out(op, offset, dy, dx, memory);
        const Region region = left(op.out_height, op.out_width, dy, dx), from = left(op.in_height, op.in_width, dy, dx);
        if (!region.height || !region.width) return;
        const Vec<T>* in = op.kind == WINDOW ? at(memory, op.source, dy, dx) : nullptr;
        const Vec<T>* added = op.added < 0 ? nullptr : at(memory, op.added, dy, dx);
        Vec<T>* out = at(memory, op.target, dy, dx);
        const Box box{{op.size[0], op.size[1]}, {op.stride[0], op.stride[1]},
                      {op.dilation[0], op.dilation[1]}, {op.padding[0], op.padding[1]}};
        const bool slides = box.size[0] >= SLIDING && box.stride[0] == 1 && box.dilation[0] == 1;
        const T* own = rows.maps + (row * program.maps + op.map) * 2;
        const Vec<T>* others = (const Vec<T>*)columns.maps_in_lanes + (block * program.maps + op.map) * 2;
        if (op.kind == TERMS) add_terms(op, memory, dy, dx, region);
        for (int y = 0; y < region.height; y++) {
            const int64_t p = (y + (dy < 0 ? -dy : 0)) * (int64_t)op.out_width + (dx < 0 ? -dx : 0);
            const int64_t q = p + dy * (int64_t)op.out_width + dx;
            const Vec<T>* found = op.kind == WINDOW
                ? row_sums<T>(columns_of<T>(in, from, box, y, region.width, sums, slides), box, region.width, line)
                : plane + (int64_t)y * region.width;
            const Vec<T>* plus = added ? added + (int64_t)y * region.width : nullptr;
            Vec<T>* to = out + (int64_t)y * region.width;
            const auto act = op.activation == RELU ? finish<T, RELU> : op.activation == ERF ? finish<T, ERF>
                : op.activation == GELU ? finish<T, GELU> : op.activation == MEANS ? finish<T, MEANS> : finish<T, NONE>;
            act(found, region.width, op, own + 2 * p, others + 2 * q, plus, to);
        }
    }
};

// Images first_row .. last_row (one after another within each operation, which then finds the maps of the others in the cache)
// with one block of the others. `work` holds two lines, a plane, and the locals and stores of each.
template <class T>
TARGET static void run_tile(
    const Program& program, const Side<T>& rows, const Side<T>& columns, int first_row, int last_row, int64_t block, void* work,
    T* results
) {
    Vec<T>* scratch = (Vec<T>*)work;
    const Tile<T> tile{program, rows, columns, scratch, scratch + program.line_size, scratch + 2 * program.line_size};
    const int64_t size = program.locals * program.local_size + program.store_size;
    Vec<T>* memory = scratch + 2 * program.line_size + program.plane_size;
    const int group = last_row - first_row;
    for (int g = 0; g < group; g++)
        for (int s = 0; s < program.stores_count; s++) {
            const Store& store = program.stores[s];
            Vec<T>* begin = memory + g * size + program.locals * program.local_size + store.begin;
            if (store.accumulates) for (int64_t i = 0; i < store.size; i++) begin[i] = Vec<T>{};
        }
    for (int s = 0; s < program.segments_count; s++) {
        const Segment& segment = program.segments[s];
        for (int o = 0; o < segment.offsets; o++) {
            const int dy = program.offsets[2 * (segment.first_offset + o)], dx = program.offsets[2 * (segment.first_offset + o) + 1];
            for (int i = 0; i < segment.operations; i++)
                for (int g = 0; g < group; g++)
                    tile.apply(
                        program.operations[segment.first_operation + i], first_row + g, block, o, dy, dx, memory + g * size
                    );
        }
    }
    for (int g = 0; g < group; g++) {
        const Vec<T>* result = tile.at(memory + g * size, program.result, 0, 0);
        for (int p = 0; p < program.outputs; p++)
            for (int lane = 0; lane < Simd<T>::LANES; lane++)
                results[((int64_t)g * Simd<T>::LANES + lane) * program.outputs + p] = result[p][lane];
    }
}
