#include "cuda_shim.hh"

#include <boost/context/detail/fcontext.hpp>

#include <array>
#include <exception>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define KV_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KV_ASAN 1
#endif
#endif
#ifdef KV_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace kv::cuda_shim {

namespace {

namespace context = boost::context::detail;

// ASan keeps book of the stack in use; without this it would take fibers for overflows.
void leave_for(void** fake, const void* stack, std::size_t size) {
#ifdef KV_ASAN
  __sanitizer_start_switch_fiber(fake, stack, size);
#else
  static_cast<void>(fake), static_cast<void>(stack), static_cast<void>(size);
#endif
}
void arrived(void* fake, const void** from, std::size_t* from_size) {
#ifdef KV_ASAN
  __sanitizer_finish_switch_fiber(fake, from, from_size);
#else
  static_cast<void>(fake), static_cast<void>(from), static_cast<void>(from_size);
#endif
}

constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // ASan's frames are large

struct Fiber {
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  context::fcontext_t at = nullptr;
  void* fake = nullptr;
  Place place;
  bool done = false;
  std::exception_ptr failure;
};

// The meeting that the lanes of a warp wait for. Values alternate between two buffers: a lane
// cannot be two meetings ahead of one that still reads.
struct Warp {
  std::array<std::array<std::uint64_t, 32>, 2> values;
  Operation operation;
  unsigned mask = 0, arrived = 0, count = 0;
};

struct Block {
  const std::function<void()>* body;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Fiber* running = nullptr;
  unsigned live = 0, waiting = 0, barriers = 0;
  bool progress = false;
  context::fcontext_t scheduler = nullptr;
  void* scheduler_fake = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_size = 0;
};

Block* block = nullptr;

void pause() {
  Fiber& fiber = *block->running;
  leave_for(&fiber.fake, block->scheduler_stack, block->scheduler_size);
  const auto back = context::jump_fcontext(block->scheduler, nullptr);
  arrived(fiber.fake, &block->scheduler_stack, &block->scheduler_size);
  block->scheduler = back.fctx;
}

void pass_barrier_if_complete() {
  if (block->waiting < block->live || block->live == 0) return;
  block->waiting = 0;
  ++block->barriers;
  block->progress = true;
}

void enter(context::transfer_t from) {
  arrived(nullptr, &block->scheduler_stack, &block->scheduler_size);
  block->scheduler = from.fctx;
  Fiber& fiber = *block->running;
  try {
    (*block->body)();
  } catch (...) {
    fiber.failure = std::current_exception();
  }
  fiber.done = block->progress = true;
  --block->live;
  pass_barrier_if_complete();
  leave_for(nullptr, block->scheduler_stack, block->scheduler_size);
  context::jump_fcontext(block->scheduler, nullptr);
}

void resume(Fiber& fiber) {
  block->running = &fiber;
  leave_for(&block->scheduler_fake, fiber.stack.get(), kStackBytes);
  const auto back = context::jump_fcontext(fiber.at, nullptr);
  arrived(block->scheduler_fake, nullptr, nullptr);
  fiber.at = back.fctx;
}

void run_block(Block& here, unsigned number, unsigned blocks) {
  const auto threads = static_cast<unsigned>(here.fibers.size());
  here.warps.assign((threads + 31) / 32, Warp{});
  here.live = threads;
  here.waiting = here.barriers = 0;
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = here.fibers[i];
    fiber.at = context::make_fcontext(fiber.stack.get() + kStackBytes, kStackBytes, enter);
    fiber.place = {{i, 0, 0}, {number, 0, 0}, {threads, 1, 1}, {blocks, 1, 1}};
    fiber.done = false;
  }
  while (here.live > 0) {
    here.progress = false;
    for (Fiber& fiber : here.fibers) {
      if (!fiber.done) resume(fiber);
      if (fiber.failure) std::rethrow_exception(fiber.failure);
    }
    if (!here.progress) throw std::logic_error("threads wait for others that do not come");
  }
}

}  // namespace

const Place& place() { return block->running->place; }
unsigned lane() { return place().thread.x % 32; }

void run_grid(unsigned blocks, unsigned threads, const std::function<void()>& body) {
  if (threads == 0 || threads > 1024) throw std::logic_error("a block has 1 to 1024 threads");
  Block here;
  here.body = &body;
  here.fibers.resize(threads);
  block = &here;
  for (unsigned i = 0; i < blocks; ++i) run_block(here, i, blocks);
  block = nullptr;
}

void sync_block() {
  const unsigned barrier = block->barriers;
  ++block->waiting;
  pass_barrier_if_complete();
  while (block->barriers == barrier) pause();
}

const std::uint64_t* meet(Operation operation, unsigned mask, std::uint64_t value) {
  Fiber& fiber = *block->running;
  Warp& warp = block->warps[fiber.place.thread.x / 32];
  const unsigned me = 1u << lane(), meeting = warp.count;
  if (!(mask & me)) throw std::logic_error("a lane outside its own mask");
  if (warp.arrived == 0) {
    warp.operation = operation;
    warp.mask = mask;
  } else if (warp.operation != operation || warp.mask != mask) {
    throw std::logic_error("lanes of a warp meet at different operations or masks");
  }
  warp.values[meeting % 2][lane()] = value;
  warp.arrived |= me;
  if (warp.arrived == mask) {
    warp.arrived = 0;
    ++warp.count;
    block->progress = true;
  }
  while (warp.count == meeting) pause();
  return warp.values[meeting % 2].data();
}

}  // namespace kv::cuda_shim
