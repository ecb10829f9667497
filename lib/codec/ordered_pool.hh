#pragma once
// Work on several threads whose results are used in the order it was given.

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace kv {

// One thread: work is done as it is added. More: at most two pieces of work a
// thread are under way, so memory is bounded by that.
template <typename T>
class OrderedPool {
 public:
  using Use = std::function<void(T)>;

  OrderedPool(int threads, Use use) : use_(std::move(use)) {
    if (threads < 2) return;
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) { run(stop); });
    }
  }
  ~OrderedPool() {
    for (std::jthread& thread : threads_) thread.request_stop();
  }

  // Results are used, and what `work` threw is thrown, here and in finish().
  void add(std::function<T()> work) {
    if (threads_.empty()) return use_(work());
    if (results_.size() == 2 * threads_.size()) use_first();
    std::packaged_task<T()> task(std::move(work));
    results_.push_back(task.get_future());
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  void finish() {
    while (!results_.empty()) use_first();
  }

 private:
  void use_first() {
    std::future<T> first = std::move(results_.front());
    results_.pop_front();
    use_(first.get());
  }

  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (wake_.wait(lock, stop, [&] { return !tasks_.empty(); })) {
      if (stop.stop_requested()) return;
      std::packaged_task<T()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  Use use_;
  std::deque<std::future<T>> results_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::packaged_task<T()>> tasks_;
  std::vector<std::jthread> threads_;  // last: stopped and joined before the rest goes
};

}  // namespace kv
