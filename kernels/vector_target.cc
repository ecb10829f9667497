#include "vector_target.hh"

#include "cpu_features.hh"
#include "target_table.hh"

namespace kv {
namespace {

// Variants are told apart by the target itself: VectorVariants.
using Table = TargetTable<VectorTarget, std::nullptr_t>;

constexpr Table::Entry kTable[] = {
    {VectorTarget::kAvx512, "avx512", nullptr,
     [] { return cpu_has_avx2_group() && cpu_has_avx512(); }},
    {VectorTarget::kAvx2, "avx2", nullptr, cpu_has_avx2_group},
    {VectorTarget::kBaseline, "baseline", nullptr, [] { return true; }},
};

Table& table() {
  static Table table("vectors", kTable);
  return table;
}

}  // namespace

const char* vector_target_name(VectorTarget target) { return table().name(target); }
std::span<const VectorTarget> vector_targets() { return table().here(); }
void set_vector_target(VectorTarget target) { table().select(target); }
VectorTarget vector_target() { return table().selected().target; }

}  // namespace kv
