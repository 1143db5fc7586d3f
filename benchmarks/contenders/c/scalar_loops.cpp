// The scalar loops as a person would write them in C++: straightforward code, and its adjoint derived by hand.

#include <array>
#include <vector>

namespace {

// A determinant by minors along the first row. `columns` are those that are left. Forward keeps the minor of every
// term, of all levels, in the order they are done; backward goes through them in the opposite order.
constexpr int size = 7;

constexpr int terms(int side) { return side == 1 ? 0 : side * (1 + terms(side - 1)); }

template <int side>
using Columns = std::array<int, side>;

template <int side>
double forward(const double *matrix, const Columns<side> &columns, double *&kept)
{
    const double *row = matrix + (size - side) * size;
    if constexpr (side == 1) {
        return row[columns[0]];
    } else {
        Columns<side - 1> others;
        for (int i = 1; i < side; i++)
            others[i - 1] = columns[i];
        double total = 0.0;
        for (int i = 0; i < side; i++) {
            double minor = forward<side - 1>(matrix, others, kept);
            *kept++ = minor;
            total += (i % 2 ? -minor : minor) * row[columns[i]];
            if (i < side - 1)
                others[i] = columns[i];
        }
        return total;
    }
}

template <int side>
void backward(const double *matrix, double *gradient, double seed, const Columns<side> &columns, const double *&kept)
{
    const double *row = matrix + (size - side) * size;
    double *row_gradient = gradient + (size - side) * size;
    if constexpr (side == 1) {
        row_gradient[columns[0]] += seed;
    } else {
        Columns<side - 1> others;
        for (int i = 0; i < side - 1; i++)
            others[i] = columns[i];
        for (int i = side - 1; i >= 0; i--) {
            double signed_seed = i % 2 ? -seed : seed;
            row_gradient[columns[i]] += signed_seed * *--kept;
            backward<side - 1>(matrix, gradient, signed_seed * row[columns[i]], others, kept);
            if (i > 0)
                others[i - 1] = columns[i];
        }
    }
}

// The equations of Lotka and Volterra, x' = a x - b x y and y' = d x y - c y.
struct Populations {
    double x, y;
};

Populations operator+(Populations s, Populations t) { return {s.x + t.x, s.y + t.y}; }
Populations operator*(double factor, Populations s) { return {factor * s.x, factor * s.y}; }

Populations rates(Populations s, const double *p)
{
    return {p[0] * s.x - p[1] * s.x * s.y, p[3] * s.x * s.y - p[2] * s.y};
}

// What `seed`, the derivative by the rates, means for the populations, and for the parameters, where it is added.
Populations pulled_back(Populations seed, Populations s, const double *p, double *gradient)
{
    gradient[0] += seed.x * s.x;
    gradient[1] -= seed.x * s.x * s.y;
    gradient[2] -= seed.y * s.y;
    gradient[3] += seed.y * s.x * s.y;
    return {seed.x * (p[0] - p[1] * s.y) + seed.y * p[3] * s.y, seed.y * (p[3] * s.x - p[2]) - seed.x * p[1] * s.x};
}

}  // namespace

// The determinant of a 7x7 matrix; its gradient is written to `gradient`.
extern "C" double determinant(const double *matrix, double *gradient)
{
    static double minors[terms(size)];
    Columns<size> columns;
    for (int i = 0; i < size; i++)
        columns[i] = i;
    for (int i = 0; i < size * size; i++)
        gradient[i] = 0.0;
    double *top = minors;
    double value = forward<size>(matrix, columns, top);
    const double *taken = top;
    backward<size>(matrix, gradient, 1.0, columns, taken);
    return value;
}

// The sum of both populations after `steps` steps of Runge and Kutta from (1, 1), and its gradient by a, b, c, d.
extern "C" double lotka_volterra(const double *p, double *gradient, int steps, double h)
{
    std::vector<Populations> kept(steps);
    Populations s = {1.0, 1.0};
    for (int step = 0; step < steps; step++) {
        kept[step] = s;
        Populations k1 = rates(s, p), k2 = rates(s + h / 2 * k1, p), k3 = rates(s + h / 2 * k2, p),
                    k4 = rates(s + h * k3, p);
        s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    }
    for (int i = 0; i < 4; i++)
        gradient[i] = 0.0;
    Populations g = {1.0, 1.0};
    for (int step = steps - 1; step >= 0; step--) {
        Populations s1 = kept[step], s2 = s1 + h / 2 * rates(s1, p), s3 = s1 + h / 2 * rates(s2, p),
                    s4 = s1 + h * rates(s3, p);
        Populations u4 = pulled_back(h / 6 * g, s4, p, gradient);
        Populations u3 = pulled_back(h / 3 * g + h * u4, s3, p, gradient);
        Populations u2 = pulled_back(h / 3 * g + h / 2 * u3, s2, p, gradient);
        Populations u1 = pulled_back(h / 6 * g + h / 2 * u2, s1, p, gradient);
        g = g + u1 + u2 + u3 + u4;
    }
    return s.x + s.y;
}
