/* A training step of a ReLU network as a person would write it in C who knows the machine: matrix products by BLAS,
 * everything else in the few loops that are left. It is the bound that the frameworks are measured against.
 *
 * Activations and error signals are stored one row per unit, so that a row holds the whole batch. Then the bias is
 * one number per row, the softmax goes along columns, and every loop runs over the batch without gaps. Weights lie
 * as PyTorch's do, (out, in), and the inputs as they come, (batch, in): transposes are flags of the products.
 *
 * Threads share the batch on the way forward and backward, where columns do not depend on each other, and the units
 * of every layer in the update: the only times they meet are between the two and at the end. BLAS itself has one
 * thread. The update of a weight is part of the product that makes its gradient, W <- W - rate G A', so no gradient
 * is ever stored. Where a layer is so small that a call of BLAS takes longer than the product, plain loops do it.
 *
 * Compiled with BLAS_INT defined as BLAS's type of integers.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

enum { ROW_MAJOR = 101, AS_IS = 111, TRANSPOSED = 112 };

typedef void (*gemm_function)(int order, int transpose_a, int transpose_b, BLAS_INT m, BLAS_INT n, BLAS_INT k,
                              float alpha, const float *a, BLAS_INT lda, const float *b, BLAS_INT ldb, float beta,
                              float *c, BLAS_INT ldc);

/* A product of fewer multiplications than this is done in plain loops. */
enum { SMALL = 16384 };

typedef struct network network;

typedef struct {
    network *net;
    int number;
    float loss; /* of this thread's share of the batch */
    pthread_t handle;
} worker;

struct network {
    int layers, batch, threads;
    float rate;
    int *widths;           /* of the input, of each hidden layer, of the output: layers + 1 of them */
    float **weights;       /* (out, in) of each layer */
    float **biases;        /* (out) */
    float **activations;   /* (out, batch) of each layer; the last one holds the scores */
    float **errors;        /* (out, batch): derivative of the loss by what enters each layer's activation */
    const float *inputs;   /* (batch, in) */
    float *inputs_by_unit; /* (in, batch), for the plain loops */
    const int64_t *targets;
    float *maxima, *totals; /* (batch) */
    gemm_function gemm;

    worker *workers;
    atomic_long begun;  /* steps that were begun; -1 ends the threads */
    atomic_long met;    /* how often a thread arrived at a meeting */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
};

/* A matrix by rows, `stride` numbers apart, or its transpose. */
typedef struct {
    const float *at;
    int stride, flag;
} matrix;

/* exp of a number that is not positive: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, expf.c). */
static inline float exp_of_nonpositive(float x)
{
    x = x < -87.0f ? -87.0f : x;
    float n = __builtin_rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { int32_t bits; float value; } power = {((int32_t)n + 127) << 23};
    return p * power.value;
}

/* C <- A B in plain loops, for B and C that lie by rows: tiles of C stay in registers. */
static void plain_product(int m, int n, int k, matrix a, const float *restrict b, int ldb, float *restrict c, int ldc)
{
    enum { ROWS = 4, COLUMNS = 32 };
    int along = a.flag == AS_IS ? 1 : a.stride, across = a.flag == AS_IS ? a.stride : 1;
    for (int i = 0; i < m; i += ROWS)
        for (int j = 0; j < n; j += COLUMNS) {
            int rows = m - i < ROWS ? m - i : ROWS, columns = n - j < COLUMNS ? n - j : COLUMNS;
            if (rows == ROWS && columns == COLUMNS) {
                float tile[ROWS][COLUMNS] = {{0}};
                for (int p = 0; p < k; p++)
                    for (int r = 0; r < ROWS; r++)
                        for (int s = 0; s < COLUMNS; s++)
                            tile[r][s] += a.at[(i + r) * across + p * along] * b[p * ldb + j + s];
                for (int r = 0; r < ROWS; r++)
                    memcpy(c + (i + r) * ldc + j, tile[r], sizeof tile[r]);
                continue;
            }
            for (int r = i; r < i + rows; r++) {
                memset(c + r * ldc + j, 0, columns * sizeof *c);
                for (int p = 0; p < k; p++)
                    for (int s = j; s < j + columns; s++)
                        c[r * ldc + s] += a.at[r * across + p * along] * b[p * ldb + s];
            }
        }
}

/* C <- A B, shapes (m, k) and (k, n). */
static void product(const network *net, int m, int n, int k, matrix a, matrix b, float *c, int ldc)
{
    if ((long)m * n * k < SMALL)
        plain_product(m, n, k, a, b.at, b.stride, c, ldc);
    else
        net->gemm(ROW_MAJOR, a.flag, b.flag, m, n, k, 1.0f, a.at, a.stride, b.at, b.stride, 0.0f, c, ldc);
}

static void forward(const network *net, int from, int count)
{
    int batch = net->batch;
    for (int layer = 0; layer < net->layers; layer++) {
        int in = net->widths[layer], out = net->widths[layer + 1];
        float *z = net->activations[layer] + from;
        matrix weight = {net->weights[layer], in, AS_IS}, x;
        if (layer)
            x = (matrix){net->activations[layer - 1] + from, batch, AS_IS};
        else if ((long)out * count * in < SMALL)
            x = (matrix){net->inputs_by_unit + from, batch, AS_IS};
        else
            x = (matrix){net->inputs + (size_t)from * in, in, TRANSPOSED};
        product(net, out, count, in, weight, x, z, batch);
        float floor = layer + 1 < net->layers ? 0.0f : -__builtin_inff();
        for (int unit = 0; unit < out; unit++) {
            float bias = net->biases[layer][unit], *restrict row = z + (size_t)unit * batch;
            for (int j = 0; j < count; j++) {
                float value = row[j] + bias;
                row[j] = value > floor ? value : floor;
            }
        }
    }
}

/* Softmax cross-entropy: the sum of the losses, and the error signal of the scores, (softmax - one-hot) / batch. */
static float cross_entropy(const network *net, int from, int count)
{
    int batch = net->batch, classes = net->widths[net->layers];
    const float *scores = net->activations[net->layers - 1] + from;
    float *errors = net->errors[net->layers - 1] + from;
    float *restrict maxima = net->maxima + from, *restrict totals = net->totals + from;
    memcpy(maxima, scores, count * sizeof *maxima);
    memset(totals, 0, count * sizeof *totals);
    for (int class = 1; class < classes; class++) {
        const float *restrict row = scores + (size_t)class * batch;
        for (int j = 0; j < count; j++)
            maxima[j] = row[j] > maxima[j] ? row[j] : maxima[j];
    }
    for (int class = 0; class < classes; class++) {
        const float *restrict row = scores + (size_t)class * batch;
        float *restrict error = errors + (size_t)class * batch;
        for (int j = 0; j < count; j++) {
            float e = exp_of_nonpositive(row[j] - maxima[j]);
            error[j] = e;
            totals[j] += e;
        }
    }
    float loss = 0.0f;
    for (int j = 0; j < count; j++)
        loss += __builtin_logf(totals[j]) + maxima[j] - scores[(size_t)net->targets[from + j] * batch + j];
    for (int j = 0; j < count; j++)
        totals[j] = 1.0f / (totals[j] * batch);
    for (int class = 0; class < classes; class++) {
        float *restrict error = errors + (size_t)class * batch;
        for (int j = 0; j < count; j++)
            error[j] *= totals[j];
    }
    for (int j = 0; j < count; j++)
        errors[(size_t)net->targets[from + j] * batch + j] -= 1.0f / batch;
    return loss;
}

/* The error signals of all hidden layers: W' G where the unit was active. */
static void backward(const network *net, int from, int count)
{
    int batch = net->batch;
    for (int layer = net->layers - 1; layer > 0; layer--) {
        int in = net->widths[layer], out = net->widths[layer + 1];
        float *error = net->errors[layer - 1] + from;
        matrix weight = {net->weights[layer], in, TRANSPOSED}, above = {net->errors[layer] + from, batch, AS_IS};
        product(net, in, count, out, weight, above, error, batch);
        for (int unit = 0; unit < in; unit++) {
            const float *restrict active = net->activations[layer - 1] + from + (size_t)unit * batch;
            float *restrict row = error + (size_t)unit * batch;
            for (int j = 0; j < count; j++)
                row[j] = active[j] > 0.0f ? row[j] : 0.0f;
        }
    }
}

static inline float dot(const float *restrict a, const float *restrict b, int count)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < count; j++)
        sum += a[j] * b[j];
    return sum;
}

/* W <- W - rate G A' and b <- b - rate G 1, for a share of the units of every layer. */
static void update(const network *net, int number)
{
    int batch = net->batch;
    for (int layer = 0; layer < net->layers; layer++) {
        int in = net->widths[layer], out = net->widths[layer + 1];
        int from = (long)out * number / net->threads, count = (long)out * (number + 1) / net->threads - from;
        const float *error = net->errors[layer] + (size_t)from * batch;
        float *weight = net->weights[layer] + (size_t)from * in, *bias = net->biases[layer] + from;
        if ((long)count * in * batch < SMALL) {
            const float *x = layer ? net->activations[layer - 1] : net->inputs_by_unit;
            for (int unit = 0; unit < count; unit++)
                for (int i = 0; i < in; i++)
                    weight[unit * in + i] -=
                        net->rate * dot(error + (size_t)unit * batch, x + (size_t)i * batch, batch);
        } else {
            const float *x = layer ? net->activations[layer - 1] : net->inputs;
            net->gemm(ROW_MAJOR, AS_IS, layer ? TRANSPOSED : AS_IS, count, in, batch, -net->rate, error, batch, x,
                      layer ? batch : in, 1.0f, weight, in);
        }
        for (int unit = 0; unit < count; unit++) {
            const float *restrict row = error + (size_t)unit * batch;
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int j = 0; j < batch; j++)
                sum += row[j];
            bias[unit] -= net->rate * sum;
        }
    }
}

/* One turn of waiting: most waits are over at once, and in a long one somebody else may need the core. */
static inline void linger(int turn)
{
#ifdef __SSE__
    _mm_pause();
#endif
    if (turn > 1000)
        sched_yield();
}

/* All threads wait here for each other. */
static void meet(network *net)
{
    long target = (atomic_fetch_add(&net->met, 1) / net->threads + 1) * net->threads;
    for (int turn = 0; atomic_load_explicit(&net->met, memory_order_acquire) < target; turn++)
        linger(turn);
}

/* One thread's share of a step. Subnormal numbers count as zero meanwhile. */
static void share(worker *self)
{
    network *net = self->net;
    int from = (long)net->batch * self->number / net->threads;
    int count = (long)net->batch * (self->number + 1) / net->threads - from;
#ifdef __SSE__
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);
#endif
    forward(net, from, count);
    self->loss = cross_entropy(net, from, count);
    backward(net, from, count);
    if (net->threads > 1)
        meet(net);
    update(net, self->number);
    if (net->threads > 1)
        meet(net);
#ifdef __SSE__
    _mm_setcsr(mode);
#endif
}

/* What further threads do: wait for a step to begin, awake for a moment and then asleep, and do their share. */
static void *attend(void *argument)
{
    worker *self = argument;
    network *net = self->net;
    for (long step = 1;; step++) {
        for (int turn = 0; turn < 2000 && atomic_load(&net->begun) == step - 1; turn++)
            linger(turn);
        pthread_mutex_lock(&net->sleep);
        while (atomic_load(&net->begun) == step - 1)
            pthread_cond_wait(&net->wake, &net->sleep);
        pthread_mutex_unlock(&net->sleep);
        if (atomic_load(&net->begun) < 0)
            return NULL;
        share(self);
    }
}

static void begin(network *net, long step)
{
    if (net->threads == 1)
        return;
    pthread_mutex_lock(&net->sleep);
    atomic_store(&net->begun, step);
    pthread_cond_broadcast(&net->wake);
    pthread_mutex_unlock(&net->sleep);
}

/* One step; returns the mean loss before it. */
float network_step(network *net)
{
    begin(net, atomic_load(&net->begun) + 1);
    share(&net->workers[0]);
    float loss = 0.0f;
    for (int number = 0; number < net->threads; number++)
        loss += net->workers[number].loss;
    return loss / net->batch;
}

static float *floats(size_t count)
{
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    return aligned_alloc(64, bytes + 64);
}

/* `parameters` holds weight and bias of each layer, one after the other. It is copied, as are inputs and targets. */
network *network_new(int layers, const int *widths, int batch, float rate, int threads, const float *parameters,
                     const float *inputs, const int64_t *targets, gemm_function gemm)
{
    network *net = calloc(1, sizeof *net);
    net->layers = layers, net->batch = batch, net->rate = rate, net->threads = threads, net->gemm = gemm;
    net->widths = memcpy(malloc((layers + 1) * sizeof *widths), widths, (layers + 1) * sizeof *widths);
    net->weights = calloc(layers, sizeof(float *)), net->biases = calloc(layers, sizeof(float *));
    net->activations = calloc(layers, sizeof(float *)), net->errors = calloc(layers, sizeof(float *));
    for (int layer = 0; layer < layers; layer++) {
        size_t in = widths[layer], out = widths[layer + 1];
        net->weights[layer] = memcpy(floats(out * in), parameters, out * in * sizeof(float));
        net->biases[layer] = memcpy(floats(out), parameters + out * in, out * sizeof(float));
        net->activations[layer] = floats(out * batch);
        net->errors[layer] = floats(out * batch);
        parameters += out * in + out;
    }
    size_t in = widths[0];
    net->inputs = memcpy(floats(batch * in), inputs, batch * in * sizeof(float));
    net->inputs_by_unit = floats(batch * in);
    for (int row = 0; row < batch; row++)
        for (size_t unit = 0; unit < in; unit++)
            net->inputs_by_unit[unit * batch + row] = inputs[row * in + unit];
    net->targets = memcpy(malloc(batch * sizeof *targets), targets, batch * sizeof *targets);
    net->maxima = floats(batch), net->totals = floats(batch);
    pthread_mutex_init(&net->sleep, NULL);
    pthread_cond_init(&net->wake, NULL);
    net->workers = calloc(threads, sizeof *net->workers);
    for (int number = 0; number < threads; number++) {
        net->workers[number] = (worker){.net = net, .number = number};
        if (number)
            pthread_create(&net->workers[number].handle, NULL, attend, &net->workers[number]);
    }
    return net;
}

void network_free(network *net)
{
    begin(net, -1);
    for (int number = 1; number < net->threads; number++)
        pthread_join(net->workers[number].handle, NULL);
    for (int layer = 0; layer < net->layers; layer++) {
        free(net->weights[layer]), free(net->biases[layer]);
        free(net->activations[layer]), free(net->errors[layer]);
    }
    free(net->weights), free(net->biases), free(net->activations), free(net->errors);
    free(net->widths), free((void *)net->inputs), free(net->inputs_by_unit), free((void *)net->targets);
    free(net->maxima), free(net->totals), free(net->workers);
    pthread_mutex_destroy(&net->sleep);
    pthread_cond_destroy(&net->wake);
    free(net);
}
