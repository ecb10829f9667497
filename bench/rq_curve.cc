#include "rq_curve.hh"

#include <algorithm>
#include <cmath>

namespace kv {

std::optional<double> bits_at_kld(std::vector<RatePoint> points, double kld) {
  std::erase_if(points, [](const RatePoint& point) { return point.kld <= 0 || point.bits <= 0; });
  std::sort(points.begin(), points.end(),
            [](const RatePoint& a, const RatePoint& b) { return a.bits < b.bits; });
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (points[i].kld == kld) return points[i].bits;
    if (i + 1 == points.size() || points[i].kld < kld || points[i + 1].kld > kld) continue;
    const double share =
        std::log(points[i].kld / kld) / std::log(points[i].kld / points[i + 1].kld);
    return points[i].bits * std::pow(points[i + 1].bits / points[i].bits, share);
  }
  return std::nullopt;
}

}  // namespace kv
