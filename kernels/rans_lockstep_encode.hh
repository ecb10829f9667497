// A part of rans_lockstep.hh, and no header of its own either.

struct EncodeSlot {
  Step::State state;
  std::byte* at;  // the words made so far, last one first from the end of `words`
  const RansStep* step;
  const std::int8_t* values;
  std::size_t left;
  const RansEncodeJob* job;
  std::unique_ptr<std::byte[]> words;
  std::size_t size_bytes;

  void start(const RansEncodeJob& from) {
    alignas(64) std::array<std::uint32_t, kRansLanes> states;
    states.fill(kRansLow);
    state = Step::load(states.data());
    job = &from;
    left = from.steps.size();
    // 64 bytes a step at most, and a step may scribble over 64 bytes before those that it wrote.
    size_bytes = 64 * left + 64;
    words = std::make_unique_for_overwrite<std::byte[]>(size_bytes);
    at = words.get() + size_bytes;
    step = from.steps.data() + left;
    values = from.values + left * kRansLanes;
  }

  void finish() {
    alignas(64) std::array<std::uint32_t, kRansLanes> states;
    Step::store(state, states.data());
    const auto head = std::as_bytes(std::span(states));
    const std::byte* end = words.get() + size_bytes;
    std::vector<std::byte>& out = *job->out;
    out.reserve(out.size() + head.size() + static_cast<std::size_t>(end - at));
    out.insert(out.end(), head.begin(), head.end());
    out.insert(out.end(), static_cast<const std::byte*>(at), end);
    words.reset();
  }
};

// As decode_run, from the last step to the first.
template <int K, int kBits, bool kPartial>
std::size_t encode_run(EncodeSlot* const* slots, const RansRow* rows, std::size_t most) {
  Step::State state[K];
  std::byte* at[K];
  HWY_UNROLL(4)
  for (int k = 0; k < K; ++k) {
    state[k] = slots[k]->state;
    at[k] = slots[k]->at;
  }
  Now<K> now;
  now.look(slots, rows, -1);
  std::size_t i = 0;
  while (true) {
    ++i;
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) {
      const std::int8_t* values = slots[k]->values - i * kRansLanes;
      at[k] = Step::encode<kBits, kPartial>(state[k], *now.row[k], at[k], values, now.lanes[k]);
    }
    if (i == most) break;
    const auto next = -1 - static_cast<std::ptrdiff_t>(i);
    if (now.same(slots, next)) continue;
    now.look(slots, rows, next);
    if (Step::encode_bits(now.most_bits) != kBits || now.partial != kPartial) break;
  }
  HWY_UNROLL(4)
  for (int k = 0; k < K; ++k) {
    slots[k]->state = state[k];
    slots[k]->at = at[k];
    slots[k]->step -= i;
    slots[k]->values -= i * kRansLanes;
    slots[k]->left -= i;
  }
  return i;
}

template <int K>
void encode_together(EncodeSlot* const* slots, const RansRow* rows) {
  std::size_t left = slots[0]->left;
  for (int k = 1; k < K; ++k) left = std::min(left, slots[k]->left);
  while (left > 0) {
    Now<K> now;
    now.look(slots, rows, -1);
    constexpr int kBits3 = Step::encode_bits(3), kBits4 = Step::encode_bits(4);
    constexpr decltype(&encode_run<K, 5, false>) kRuns[] = {
        encode_run<K, kBits3, false>, encode_run<K, kBits4, false>, encode_run<K, 5, false>,
        encode_run<K, kBits3, true>,  encode_run<K, kBits4, true>,  encode_run<K, 5, true>,
    };
    const int bits = std::max(3, now.most_bits);
    left -= kRuns[bits - 3 + (now.partial ? 3 : 0)](slots, rows, left);
  }
}

void encode_all(const RansTables& tables, std::span<const RansEncodeJob> jobs) {
  std::array<EncodeSlot, kStreams> slots;
  std::array<EncodeSlot*, kStreams> live;
  for (int k = 0; k < kStreams; ++k) live[k] = &slots[k];
  int count = 0;
  std::size_t next = 0;
  while (true) {
    while (count < kStreams && next < jobs.size()) live[count++]->start(jobs[next++]);
    if (count == 0) return;
    constexpr decltype(&encode_together<1>) kTogether[] = {encode_together<1>, encode_together<2>,
                                                           encode_together<3>, encode_together<4>};
    kTogether[count - 1](live.data(), tables.rows());
    for (int k = count; k-- > 0;) {
      if (live[k]->left > 0) continue;
      live[k]->finish();
      std::swap(live[k], live[--count]);
    }
  }
}
