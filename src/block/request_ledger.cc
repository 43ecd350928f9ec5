// SPDX-License-Identifier: BSD-3-Clause
#include "block/request_ledger.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace nbdkit {
namespace {

struct Place {
  // 0, or a command + 1. Written last, and cleared first: another process reads it at any moment.
  std::atomic<std::uint32_t> used;
  std::uint64_t offset;
  std::uint64_t length;
};

// NBD protocol, "Request types": WRITE, TRIM, WRITE_ZEROES.
bool changes_data(std::uint32_t command) { return command == 1 || command == 4 || command == 6; }

struct Marked {
  std::uint32_t mark;
  std::uint32_t command;
  std::uint64_t offset;
  std::uint64_t length;
};

}  // namespace

struct RequestLedger::Memory {
  std::array<Marked, kMarkedMax> marked;
  std::array<std::array<Place, kRequestsMax>, kConnectionsMax> places;
};

Result<UniqueFd> RequestLedger::create(std::span<const MarkedRequest> marked) {
  UniqueFd file(::memfd_create("nbdkit-requests", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return os_error("memfd_create");
  if (::ftruncate(file.get(), sizeof(Memory)) != 0) return os_error("memfd_create");
  // Neither side can take memory away that the other one has mapped.
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return os_error("F_ADD_SEALS");
  }
  std::array<Marked, kMarkedMax> out{};
  for (std::size_t i = 0; i < std::min(marked.size(), kMarkedMax); ++i) {
    const LedgerRequest& request = marked[i].request;
    out[i] = {static_cast<std::uint32_t>(marked[i].mark), request.command, request.offset,
              request.length};
  }
  if (::pwrite(file.get(), &out, sizeof out, 0) != sizeof out) return os_error("memfd");
  return file;
}

Result<std::vector<LedgerRequest>> RequestLedger::read(int file) {
  void* bytes = ::mmap(nullptr, sizeof(Memory), PROT_READ, MAP_SHARED, file, 0);
  if (bytes == MAP_FAILED) return os_error("mmap");
  const auto* memory = static_cast<const Memory*>(bytes);
  std::vector<LedgerRequest> found;
  for (const auto& part : memory->places) {
    for (const Place& place : part) {
      std::uint32_t used = place.used.load(std::memory_order_acquire);
      if (used == 0 || used > 0x10000) continue;
      found.push_back({static_cast<std::uint16_t>(used - 1), place.offset, place.length});
    }
  }
  ::munmap(bytes, sizeof(Memory));
  return found;
}

Result<std::unique_ptr<RequestLedger>> RequestLedger::open(UniqueFd file) {
  struct stat status;
  bool sound = ::fcntl(file.get(), F_GET_SEALS) > 0 && ::fstat(file.get(), &status) == 0 &&
               static_cast<std::size_t>(status.st_size) == sizeof(Memory);
  if (!sound) return Error(std::errc::invalid_argument, "the descriptor is not a request ledger");
  void* bytes = ::mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (bytes == MAP_FAILED) return os_error("mmap");
  return std::unique_ptr<RequestLedger>(new RequestLedger(static_cast<Memory*>(bytes)));
}

RequestLedger::~RequestLedger() { ::munmap(memory_, sizeof(Memory)); }

std::optional<LedgerMark> RequestLedger::mark_of(const LedgerRequest& request) const {
  for (const Marked& marked : memory_->marked) {
    if (marked.mark == 0) return std::nullopt;  // The first that is free is behind the last.
    if (marked.command == request.command && marked.offset == request.offset &&
        marked.length == request.length) {
      return static_cast<LedgerMark>(marked.mark);
    }
  }
  return std::nullopt;
}

RequestLedger::Lease RequestLedger::lease() {
  std::uint32_t leased = leased_.load();
  for (;;) {
    auto part = static_cast<std::size_t>(std::countr_one(leased));
    if (part >= kConnectionsMax) return {};
    if (leased_.compare_exchange_weak(leased, leased | (1u << part))) return Lease(*this, part);
  }
}

RequestLedger::Lease::Lease(Lease&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)),
      part_(other.part_),
      given_up_(other.given_up_) {}

RequestLedger::Lease& RequestLedger::Lease::operator=(Lease&& other) noexcept {
  std::swap(ledger_, other.ledger_);
  std::swap(part_, other.part_);
  std::swap(given_up_, other.given_up_);
  return *this;
}

RequestLedger::Lease::~Lease() {
  if (ledger_ == nullptr) return;
  ledger_->turns_[part_].socket.store(-1);
  ledger_->leased_.fetch_and(~(1u << part_));
}

void RequestLedger::Lease::begin(std::size_t place, const LedgerRequest& request) {
  Place& entry = ledger_->memory_->places[part_][place];
  entry.offset = request.offset;
  entry.length = request.length;
  entry.used.store(request.command + 1u, std::memory_order_release);
}

void RequestLedger::Lease::end(std::size_t place) {
  ledger_->memory_->places[part_][place].used.store(0, std::memory_order_release);
}

// A socket is shut down before what was asked on it is sent again. So whoever has received that
// sees here that the other has hung up; and the other, should it only now be about to begin, has
// said so before it looks, and sees it too.
bool RequestLedger::Lease::enter(int socket) {
  Turn& mine = ledger_->turns_[part_];
  mine.socket.store(socket, std::memory_order_relaxed);
  mine.begins.store(true);
  given_up_ = 0;
  const std::uint32_t others = ledger_->leased_.load() & ~(1u << part_);
  if (others == 0) return true;
  std::array<pollfd, kConnectionsMax> polls;
  for (std::size_t part = 0; part < kConnectionsMax; ++part) {
    const bool used = part == part_ || (others & 1u << part) != 0;
    polls[part] = {used ? ledger_->turns_[part].socket.load() : -1, POLLRDHUP, 0};
  }
  if (::poll(polls.data(), polls.size(), 0) <= 0) return true;
  for (std::size_t part = 0; part < kConnectionsMax; ++part) {
    if ((polls[part].revents & (POLLHUP | POLLRDHUP)) != 0) given_up_ |= 1u << part;
  }
  return (given_up_ & 1u << part_) == 0;
}

void RequestLedger::Lease::leave() { ledger_->turns_[part_].begins.store(false); }

bool RequestLedger::Lease::is_free(const LedgerRequest& request) const {
  for (std::size_t part = 0; given_up_ >> part != 0; ++part) {
    if ((given_up_ & 1u << part) == 0) continue;
    if (ledger_->turns_[part].begins.load() || ledger_->changes_data_in(part, request))
      return false;
  }
  return true;
}

bool RequestLedger::changes_data_in(std::size_t part, const LedgerRequest& request) const {
  for (const Place& place : memory_->places[part]) {
    std::uint32_t used = place.used.load(std::memory_order_acquire);
    if (used == 0 || !changes_data(used - 1)) continue;
    if (place.offset < request.offset + request.length &&
        request.offset < place.offset + place.length) {
      return true;
    }
  }
  return false;
}

}  // namespace nbdkit
