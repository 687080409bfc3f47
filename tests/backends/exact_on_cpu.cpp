// exact.cu as a shared library for test_cupy_exact.py; EXACT_CU is its path.
#include "cuda_on_cpu.h"

#include EXACT_CU

extern "C" {
void set_order(int direction) { order = direction; }

void run_sum_tiles_float32(long long blocks, const float *tables, const double *weights, double *partials, int n, int mid) {
    launch(blocks, THREADS, [=] { sum_tiles_float32(tables, weights, partials, n, mid); });
}

void run_sum_tiles_float64(long long blocks, const double *tables, const double *weights, double *partials, int n, int mid) {
    launch(blocks, THREADS, [=] { sum_tiles_float64(tables, weights, partials, n, mid); });
}

void run_sum_blocks(long long blocks, const double *partials, double *sums, int *bad, int n, int block_bits, int lane_bits, long long count) {
    launch(blocks, THREADS, [=] { sum_blocks(partials, sums, bad, n, block_bits, lane_bits, count); });
}

void run_finish_float32(long long blocks, const float *tables, const double *sums, float *shapley, int *bad, int n, long long count) {
    launch(blocks, THREADS, [=] { finish_float32(tables, sums, shapley, bad, n, count); });
}

void run_finish_float64(long long blocks, const double *tables, const double *sums, double *shapley, int *bad, int n, long long count) {
    launch(blocks, THREADS, [=] { finish_float64(tables, sums, shapley, bad, n, count); });
}
}
