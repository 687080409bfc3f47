// Exact Shapley values of coalition tables that are too large for a matrix product: every value is read once.
//
// With w(s) = s!(n-1-s)!/n!, w(n) = w(-1) = 0 and u(S) = (v(S) - v(0))(w(|S|-1) + w(|S|)), the Shapley value of i is
// the sum of u(S) over the S with i, S_i, less a number that is the same for all players. That number follows from
// efficiency, so it is never summed up: phi_i = S_i - mean(S) + (v(N) - v(0))/n. (w(s) = s/n (w(s-1) + w(s)) but for
// s = 0 and s = n, and the sum of |S| u(S) over all S is the sum of the S_i.)
//
// The bits of a coalition's index, from the lowest: place in a 16-byte vector | thread (8) | vector of the thread (2) |
// tile of the block (mid, up to MAX_MID) | block. sum_tiles reads the table; a block leaves one sum per player among
// its own bits, and one of all its terms for the players among the block's bits. sum_blocks adds these up, finish
// makes them Shapley values. The order of every addition depends on n, dtype and mid alone, never on the device or on
// timing (no atomics): the same table always gives the same bits.
//
// tests/backends/cuda_on_cpu.h compiles this file with a C++ compiler and runs it without a GPU: it may use no warp
// primitives, and needs every access to shared memory separated by barriers.

constexpr int THREAD_BITS = 8;
constexpr int THREADS = 1 << THREAD_BITS;
constexpr int VECTOR_BITS = 2;  // four vectors per thread and tile: 64 bytes on their way while 64 are summed up
constexpr int VECTORS = 1 << VECTOR_BITS;
constexpr int MAX_MID = 6;
constexpr int MAX_PLAYERS = 63;
constexpr int PARTS = 16;  // threads that share the sum of one row at the end of a block

struct Float32 {
    using Value = float;
    using Vector = float4;
    static constexpr int BITS = 2;
    static __device__ void unpack(const Vector &x, Value *out) { out[0] = x.x, out[1] = x.y, out[2] = x.z, out[3] = x.w; }
};

struct Float64 {
    using Value = double;
    using Vector = double2;
    static constexpr int BITS = 1;
    static __device__ void unpack(const Vector &x, Value *out) { out[0] = x.x, out[1] = x.y; }
};

// Fold the terms of a thread on its top bit: the upper half sums to that bit's player, both halves together leave the
// same problem without it. Recursive templates, so that every index is known and the terms stay in registers.
template <int BIT> __device__ __forceinline__ void fold(double *terms, double *by_bit) {
    if constexpr (BIT >= 0) {
        constexpr int HALF = 1 << BIT;
        double upper = 0.0;
#pragma unroll
        for (int r = 0; r < HALF; ++r) {
            upper += terms[HALF + r];
            terms[r] += terms[HALF + r];
        }
        by_bit[BIT] = upper;
        fold<BIT - 1>(terms, by_bit);
    }
}

// tables (batch, 2**n), weights (n + 1) -> partials (batch, LOW + mid + 1, blocks): per block, the sums of the LOW
// players inside a tile, of the mid players inside a block, and of all terms. Grid: batch * blocks.
template <typename Type>
__device__ __forceinline__ void sum_tiles(const typename Type::Value *__restrict__ tables,
                                          const double *__restrict__ weights, double *__restrict__ partials, int n,
                                          int mid) {
    using Value = typename Type::Value;
    using Vector = typename Type::Vector;
    constexpr int OWN_BITS = Type::BITS + VECTOR_BITS;  // players that vary among the values of one thread
    constexpr int OWN = 1 << OWN_BITS;
    constexpr int LOW = OWN_BITS + THREAD_BITS;
    constexpr int WIDTH = 1 << Type::BITS;
    // Rows of sums by thread: the thread's own players, the players of the tiles, everything.
    constexpr int TOTAL = OWN_BITS + MAX_MID;
    constexpr int SLOTS = TOTAL + 1 + 4;  // and everything of the threads with bit 4, 5, 6, 7
    static_assert(SLOTS * PARTS <= THREADS, "every slot needs its threads");
    static_assert(LOW + MAX_MID + 1 <= THREADS, "every column needs a thread");

    __shared__ double shared_weights[MAX_PLAYERS + 1];
    __shared__ double rows[TOTAL + 1][THREADS];
    __shared__ double slots[SLOTS][PARTS];

    const int thread = threadIdx.x;
    const int block_bits = n - LOW - mid;
    const long long table = (long long)blockIdx.x >> block_bits;
    const long long block = (long long)blockIdx.x & ((1LL << block_bits) - 1);
    const Value *values = tables + (table << n);
    const Vector *vectors = (const Vector *)(values + (block << (LOW + mid))) + thread;

    Vector next[VECTORS];
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) next[j] = __ldcs(vectors + j * THREADS);
    if (thread <= n) shared_weights[thread] = weights[thread];
    const double empty = (double)values[0];
    __syncthreads();

    double terms[OWN], total = 0.0;
#pragma unroll
    for (int r = 0; r < OWN; ++r) terms[r] = 0.0;
    // Rarely touched, by their own thread alone until the barrier: here they take no registers.
    for (int j = 0; j < mid; ++j) rows[OWN_BITS + j][thread] = 0.0;

    const int outer = __popc(thread) + __popcll(block);  // players present in all values of this thread
    const int tiles = 1 << mid;
    for (int tile = 0; tile < tiles; ++tile) {
        Value x[OWN];
#pragma unroll
        for (int j = 0; j < VECTORS; ++j) Type::unpack(next[j], x + j * WIDTH);
        if (tile + 1 < tiles) {
            vectors += THREADS * VECTORS;
#pragma unroll
            for (int j = 0; j < VECTORS; ++j) next[j] = __ldcs(vectors + j * THREADS);
        }
        const double *weight = shared_weights + outer + __popc(tile);
        double by_size[OWN_BITS + 1];
#pragma unroll
        for (int s = 0; s <= OWN_BITS; ++s) by_size[s] = 0.0;
#pragma unroll
        for (int r = 0; r < OWN; ++r) {
            const int size = __popc(r);  // known when compiled
            const double gain = (double)x[r] - empty;
            terms[r] = fma(gain, weight[size], terms[r]);
            by_size[size] += gain;
        }
        double sum = 0.0;
#pragma unroll
        for (int s = 0; s <= OWN_BITS; ++s) sum = fma(by_size[s], weight[s], sum);
        total += sum;
        for (int bits = tile; bits != 0; bits &= bits - 1) rows[OWN_BITS + __ffs(bits) - 1][thread] += sum;
    }

    double by_bit[OWN_BITS];
    fold<OWN_BITS - 1>(terms, by_bit);
#pragma unroll
    for (int j = 0; j < OWN_BITS; ++j) rows[j][thread] = by_bit[j];
    rows[TOTAL][thread] = total;
    __syncthreads();

    // A slot is a row, or the row of everything restricted to the threads with one of the upper four bits.
    const int slot = thread / PARTS, part = thread % PARTS;
    if (slot < OWN_BITS + mid || (TOTAL <= slot && slot < SLOTS)) {
        const double *row = rows[slot < TOTAL ? slot : TOTAL];
        const int wanted = slot > TOTAL ? 1 << (slot - TOTAL - 1) : 0;
        double sum = 0.0;
        for (int i = 0; i < THREADS / PARTS; ++i)
            if ((i & wanted) == wanted) sum += row[i * PARTS + part];
        slots[slot][part] = sum;
    }
    __syncthreads();

    const int columns = LOW + mid + 1;
    if (thread < columns) {
        int from = thread - LOW + OWN_BITS, wanted = 0;  // players of the tiles
        if (thread == columns - 1) {
            from = TOTAL;
        } else if (thread < Type::BITS) {
            from = thread;
        } else if (thread < Type::BITS + 4) {
            from = TOTAL, wanted = 1 << (thread - Type::BITS);
        } else if (thread < Type::BITS + THREAD_BITS) {
            from = TOTAL + 1 + (thread - Type::BITS - 4);
        } else if (thread < LOW) {
            from = thread - THREAD_BITS;
        }
        double sum = 0.0;
        for (int i = 0; i < PARTS; ++i)
            if ((i & wanted) == wanted) sum += slots[from][i];
        partials[((table * columns + thread) << block_bits) + block] = sum;
    }
}

// Blocks per multiprocessor that registers are shared out for: which number wins, a device decides (benchmarks/gpu.py).
#ifndef BLOCKS_FLOAT32
#define BLOCKS_FLOAT32 3
#endif
#ifndef BLOCKS_FLOAT64
#define BLOCKS_FLOAT64 3
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_FLOAT32)
    sum_tiles_float32(const float *tables, const double *weights, double *partials, int n, int mid) {
    sum_tiles<Float32>(tables, weights, partials, n, mid);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_FLOAT64)
    sum_tiles_float64(const double *tables, const double *weights, double *partials, int n, int mid) {
    sum_tiles<Float64>(tables, weights, partials, n, mid);
}

// partials (batch, inner + 1, 2**block_bits), inner = n - block_bits -> sums (batch, n): the terms of the coalitions
// with each player; and bad = 0. 2**lane_bits threads share a sum, lane_bits <= block_bits. Grid: enough for all sums.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_blocks(const double *partials, double *sums, int *bad, int n, int block_bits, int lane_bits, long long count) {
    if (blockIdx.x == 0 && threadIdx.x == 0) *bad = 0;  // before finish starts
    __shared__ double shared[THREADS];
    const int lanes = 1 << lane_bits, lane = threadIdx.x & (lanes - 1);
    const long long index = (long long)blockIdx.x * (THREADS >> lane_bits) + (threadIdx.x >> lane_bits);
    double sum = 0.0;
    if (index < count) {
        const long long table = index / n;
        const int player = (int)(index % n), inner = n - block_bits;
        const long long wanted = player < inner ? 0 : 1LL << (player - inner);
        const double *column = partials + ((table * (inner + 1) + (player < inner ? player : inner)) << block_bits);
        for (long long block = lane; block < 1LL << block_bits; block += lanes)
            if ((block & wanted) == wanted) sum += column[block];
    }
    shared[threadIdx.x] = sum;
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (lane == 0 && index < count) sums[index] = shared[threadIdx.x];
}

// sums (batch, n) and tables (batch, 2**n) -> shapley (batch, n), count = batch * n, and bad: 1 if one of them is not
// finite. A thread per value: every one adds up its table's sums again, which saves waiting for a thread that does it for
// all. Threads that find something bad all write the same number, so they need not take turns.
template <typename Value>
__device__ __forceinline__ void finish(const Value *__restrict__ tables, const double *__restrict__ sums,
                                       Value *__restrict__ shapley, int *__restrict__ bad, int n, long long count) {
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (index >= count) return;
    const long long table = index / n;
    const Value *values = tables + (table << n);
    double mean = 0.0;
#pragma unroll 8
    for (int i = 0; i < n; ++i) mean += sums[table * n + i];
    mean /= n;
    const double equal = ((double)values[(1LL << n) - 1] - (double)values[0]) / n;
    const Value value = (Value)(sums[index] - mean + equal);
    shapley[index] = value;
    if (!(value - value == (Value)0)) *bad = 1;  // NaN and the infinities
}

extern "C" __global__ void __launch_bounds__(THREADS)
    finish_float32(const float *tables, const double *sums, float *shapley, int *bad, int n, long long count) {
    finish<float>(tables, sums, shapley, bad, n, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    finish_float64(const double *tables, const double *sums, double *shapley, int *bad, int n, long long count) {
    finish<double>(tables, sums, shapley, bad, n, count);
}
