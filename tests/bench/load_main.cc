// SPDX-License-Identifier: BSD-3-Clause
// nbd-load: a load generator for NBD servers, light enough that the server is what is measured.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "bench/load_connection.h"
#include "bench/load_options.h"
#include "bench/process_usage.h"

namespace nbdkit::bench {
namespace {

using Connections = std::vector<std::unique_ptr<LoadConnection>>;

std::uint64_t done_by(const Connections& connections) {
  return std::accumulate(connections.begin(), connections.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& one) { return sum + one->done(); });
}

void sleep_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

double percentile_us(const std::vector<std::uint32_t>& sorted_ns, double share) {
  if (sorted_ns.empty()) return 0;
  auto place = static_cast<std::size_t>(share * static_cast<double>(sorted_ns.size() - 1));
  return sorted_ns[place] / 1e3;
}

void measure_load(const LoadOptions& options, const Connections& connections) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (const auto& connection : connections) {
    threads.emplace_back([&connection, &stop] { connection->run(stop); });
  }
  // Measured between two instants while every connection lives: threads of a server may end with
  // their connections, and their CPU time with them.
  sleep_for(options.seconds * 0.1);
  std::uint64_t cpu = cpu_ns(options.server_pid);
  std::uint64_t done = done_by(connections);
  auto begin = std::chrono::steady_clock::now();
  sleep_for(options.seconds * 0.9);
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  done = done_by(connections) - done;
  cpu = cpu_ns(options.server_pid) - cpu;
  std::uint64_t memory = memory_kib(options.server_pid);
  stop = true;
  for (std::thread& thread : threads) thread.join();

  std::vector<std::uint32_t> all;
  for (const auto& connection : connections) {
    const auto& some = connection->latencies_ns();
    all.insert(all.end(), some.begin(), some.end());
  }
  std::sort(all.begin(), all.end());
  double iops = static_cast<double>(done) / elapsed.count();
  fmt::print(
      "{{\"iops\":{:.0f},\"mbps\":{:.1f},\"p50_us\":{:.2f},\"p99_us\":{:.2f},\"p999_us\":{:.2f},"
      "\"cpu_us_per_request\":{:.4f},\"memory_kib\":{}}}\n",
      iops, iops * options.block_size / 1e6, percentile_us(all, 0.5), percentile_us(all, 0.99),
      percentile_us(all, 0.999),
      done > 0 ? static_cast<double>(cpu) / 1e3 / static_cast<double>(done) : 0.0, memory);
}

// What each connection costs that does nothing: the difference to one connection.
void measure_idle(const LoadOptions& options) {
  constexpr unsigned kReads = 20;
  Connections connections;
  std::uint64_t before = 0;
  for (unsigned i = 0; i < options.connections; ++i) {
    connections.push_back(std::make_unique<LoadConnection>(options, i));
    connections.back()->read_once(kReads);
    if (i == 0) before = memory_kib(options.server_pid);
  }
  // Servers may give back what a burst has needed, when it is over.
  sleep_for(options.seconds);
  std::uint64_t after = memory_kib(options.server_pid);
  double others = static_cast<double>(connections.size() - 1);
  fmt::print("{{\"memory_kib\":{},\"kib_per_connection\":{:.1f}}}\n", after,
             (static_cast<double>(after) - static_cast<double>(before)) / others);
}

int run(const LoadOptions& options) {
  if (options.idle) {
    measure_idle(options);
  } else {
    Connections connections;
    for (unsigned i = 0; i < options.connections; ++i) {
      connections.push_back(std::make_unique<LoadConnection>(options, i));
    }
    measure_load(options, connections);
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace nbdkit::bench

int main(int argc, char** argv) {
  CLI::App app("Keeps requests in flight to an NBD server; one line of JSON tells how it went.");
  nbdkit::bench::LoadOptions options;
  nbdkit::bench::declare(app, options);
  CLI11_PARSE(app, argc, argv);
  return nbdkit::bench::run(options);
}
