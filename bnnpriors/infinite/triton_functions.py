# mypy: ignore-errors
"""What the kernels of `triton_source.py` call, for Triton: not imported, but run in the name space of each of them, where
`arc` and `sine` are the polynomials of their precision.

A tile is a tensor [height, width, rows, columns] in registers: the covariances of `rows` images with `columns` others at all
positions, filled up to powers of two. What is known of each image by itself lies at pointers to [height, width, LANES].
"""

import triton
import triton.language as tl


@triton.jit
def of_each(pointer, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, A: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
            LANES: tl.constexpr):  # fmt: skip
    """The numbers of N images at all positions, [A, B, N]; 0 beyond HEIGHT and WIDTH."""
    y = tl.arange(0, A)[:, None, None]
    x = tl.arange(0, B)[None, :, None]
    places = (y * WIDTH + x) * LANES + tl.arange(0, N)[None, None, :]
    return tl.load(pointer + places, mask=(y < HEIGHT) & (x < WIDTH), other=0.0)


@triton.jit
def products(rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, A: tl.constexpr, B: tl.constexpr,
             ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """The number of one image times that of another, [A, B, ROWS, COLUMNS]."""
    one = of_each(rows, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    other = of_each(columns, HEIGHT, WIDTH, A, B, COLUMNS, COLUMNS)
    return one[:, :, :, None] * other[:, :, None, :]


@triton.jit
def start(rows, columns, channels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, A: tl.constexpr, B: tl.constexpr,
          ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """(1/C) Σ_c x_cq x'_cq."""
    total = products(rows, columns, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    for channel in range(1, channels):
        place = channel * HEIGHT * WIDTH * COLUMNS
        total += products(rows + place, columns + place, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    return total / channels


@triton.jit
def down(tile, band, OUT: tl.constexpr):
    """band @ tile along the first axis, with a band [OUT, height] of zeros and ones.

    In float32 by two products of tensor cores, which read 11 significant bits of a number: of a number rounded to 11 bits, and of
    what that leaves; together 22 and a sign, an error below 2⁻²² of the number. In float64 they are exact.
    """
    IN: tl.constexpr = tile.shape[0]
    flat = tl.reshape(tile, (IN, tile.shape[1] * tile.shape[2] * tile.shape[3]))
    ones = tl.load(band + tl.arange(0, OUT)[:, None] * IN + tl.arange(0, IN)[None, :])
    if tile.dtype == tl.float32:
        high = ((flat.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        low = ((flat - high).to(tl.int32, bitcast=True) & -0x2000).to(tl.float32, bitcast=True)
        total = tl.dot(ones, low, input_precision="tf32")
        total = tl.dot(ones, high, total, input_precision="tf32")
    else:
        total = tl.dot(ones, flat, out_dtype=tl.float64)
    return tl.reshape(total, (OUT, tile.shape[1], tile.shape[2], tile.shape[3]))


@triton.jit
def across(tile, band, OUT: tl.constexpr):
    """The same along the second axis."""
    return tl.permute(down(tl.permute(tile, (1, 0, 2, 3)), band, OUT), (1, 0, 2, 3))


@triton.jit
def kappa(rho):
    """√(1−ρ²) + (π − arccos ρ)ρ = π max(ρ, 0) + u^{3/2} P(u), u = 1 − |ρ|."""
    u = tl.maximum(1.0 - tl.abs(rho), 0.0)
    return 3.141592653589793 * tl.maximum(rho, 0.0) + u * tl.sqrt(u) * arc(u)


@triton.jit
def arcsine(t):
    """a + a³ Q(a²) of a = |t| up to 1/2, and π/2 − 2 arcsin √((1−a)/2) beyond, with the sign of t."""
    a = tl.abs(t)
    far = tl.maximum(0.5 - 0.5 * a, 0.0)
    square = tl.where(a > 0.5, far, a * a)
    z = tl.where(a > 0.5, tl.sqrt(far), a)
    near = z + z * square * sine(square)
    value = tl.where(a > 0.5, 1.5707963267948966 - 2.0 * near, near)
    return tl.where(t < 0, -value, value)


@triton.jit
def relu(c, slope, HAS_SLOPE: tl.constexpr, rows, columns, second, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
         ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """LeakyReLU. Of each image: |1 − slope| √(v/2π), and 1/√v."""
    A: tl.constexpr = c.shape[0]
    B: tl.constexpr = c.shape[1]
    rho = c * products(rows + second, columns + second, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    value = kappa(rho) * products(rows, columns, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    if HAS_SLOPE:
        value += c * slope
    return value


@triton.jit
def erf(c, slope, HAS_SLOPE: tl.constexpr, rows, columns, second, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """(2/π) arcsin of c times √(2/(1+2v)) of each image."""
    scale = products(rows, columns, HEIGHT, WIDTH, c.shape[0], c.shape[1], ROWS, COLUMNS)
    return 0.6366197723675814 * arcsine(c * scale)


@triton.jit
def gelu(c, slope, HAS_SLOPE: tl.constexpr, rows, columns, second, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
         ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """GELU. Of each image: v, and q = 1/√(1+v)."""
    A: tl.constexpr = c.shape[0]
    B: tl.constexpr = c.shape[1]
    q = of_each(rows + second, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)[:, :, :, None]
    r = of_each(columns + second, HEIGHT, WIDTH, A, B, COLUMNS, COLUMNS)[:, :, None, :]
    t = c * (q * r)
    both = 0.25 + arcsine(t) * 0.15915494309189535
    density = q * r / tl.sqrt((1.0 - t) * (1.0 + t)) * 0.15915494309189535
    v = products(rows, columns, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    return c * both + density * (v + c * c * (q * q + r * r - 1.0))


@triton.jit
def means(c, slope, HAS_SLOPE: tl.constexpr, rows, columns, second, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
          ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """c + E[a]E[b'] + E[b]E[a'], of two means of each image."""
    A: tl.constexpr = c.shape[0]
    B: tl.constexpr = c.shape[1]
    c += products(rows, columns + second, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)
    return c + products(rows + second, columns, HEIGHT, WIDTH, A, B, ROWS, COLUMNS)


@triton.jit
def place_of(program, row_tiles, column_tiles, GROUP: tl.constexpr):
    """Row and column of a tile, in an order in which those that run at once share images: GROUP rows of tiles at a time."""
    group = program // (GROUP * column_tiles)
    inside = program - group * (GROUP * column_tiles)
    height = tl.minimum(row_tiles - group * GROUP, GROUP)
    return group * GROUP + inside % height, inside // height


@triton.jit
def write(tile, out, pitch, first_row, first_column, row_count, column_count, SYMMETRIC: tl.constexpr):
    """The first position of a tile, for the images that there are; i < j alone if SYMMETRIC, and mirrored."""
    y = tl.arange(0, tile.shape[0])[:, None, None, None]
    x = tl.arange(0, tile.shape[1])[None, :, None, None]
    i = (first_row + tl.arange(0, tile.shape[2])).to(tl.int64)[None, None, :, None]
    j = (first_column + tl.arange(0, tile.shape[3])).to(tl.int64)[None, None, None, :]
    mask = (y + x == 0) & (i < row_count) & (j < column_count)
    if SYMMETRIC:
        mask = mask & (i < j)
        tl.store(out + (j * pitch + i + y + x), tile, mask=mask)
    tl.store(out + (i * pitch + j + y + x), tile, mask=mask)
