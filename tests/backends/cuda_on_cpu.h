// Enough of CUDA to run a kernel without a GPU: the threads of a block are coroutines that change at barriers.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static  // one block at a time: its threads share what is static

struct Index {
    unsigned x;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};

static Index threadIdx, blockIdx;
static int order = 1;  // -1: the last thread of a block runs first, so that a missing barrier shows

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename Vector> Vector __ldcs(const Vector *address) { return *address; }
using std::fma;

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};
static ucontext_t scheduler;
static std::vector<Thread> threads;
static const std::function<void()> *body;

inline void __syncthreads() {
    const unsigned me = threadIdx.x;
    swapcontext(&threads[me].context, &scheduler);
    threadIdx.x = me;
}

static void enter() {
    const unsigned me = threadIdx.x;
    (*body)();
    threads[me].done = true;
}

// Run a kernel on `blocks` blocks of `size` threads. A barrier that only some threads of a block reach ends the process.
inline void launch(long long blocks, unsigned size, const std::function<void()> &kernel) {
    threads.resize(size);
    body = &kernel;
    for (long long block = 0; block < blocks; ++block) {
        blockIdx.x = (unsigned)block;
        for (Thread &thread : threads) {
            thread.stack.resize(1 << 16);
            thread.done = false;
            getcontext(&thread.context);
            thread.context.uc_stack.ss_sp = thread.stack.data();
            thread.context.uc_stack.ss_size = thread.stack.size();
            thread.context.uc_link = &scheduler;
            makecontext(&thread.context, enter, 0);
        }
        for (unsigned done = 0; done < size;) {
            done = 0;
            for (unsigned i = 0; i < size; ++i) {
                threadIdx.x = order > 0 ? i : size - 1 - i;
                Thread &thread = threads[threadIdx.x];
                swapcontext(&scheduler, &thread.context);
                done += thread.done;
            }
            if (done != 0 && done != size) {
                std::fprintf(stderr, "a barrier is not reached by all threads of block %lld\n", block);
                std::abort();
            }
        }
    }
}
