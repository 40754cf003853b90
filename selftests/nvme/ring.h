/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Commands through rings of every kind, many in flight, each accounted for;
 * and what a namespace's command set calls writing and reading bytes.
 */
#ifndef NVME_TEST_RING_H
#define NVME_TEST_RING_H

#include <sys/uio.h>

#include "nvme_test.h"

/**
 * struct nt_mode - a way to set a ring up
 * @name: for the names of cases
 * @setup: IORING_SETUP_* flags beside those for big entries
 */
struct nt_mode {
	const char *name;
	unsigned int setup;
};

/* plain buffers */
#define NT_UNREGISTERED	(-1)

/**
 * struct nt_ring - a ring and what is in flight in it
 * @ring: the ring
 * @polled: completions come by polling only
 * @flying: commands without a completion
 * @next: what the next command is called
 * @seen: how often each command completed, by its name
 */
struct nt_ring {
	struct io_uring ring;
	bool polled;
	unsigned int flying;
	unsigned int next;
	unsigned char seen[65536];
};

int nt_ring_try(struct nt_ring *r, unsigned int entries, unsigned int setup);
void nt_ring_open(struct nt_ring *r, unsigned int entries, unsigned int setup);
void nt_ring_close(struct nt_ring *r);
struct io_uring_sqe *nt_ring_put(struct nt_ring *r, int fd, __u32 op, int buf,
				 const struct nvme_uring_cmd *cmd);
void nt_ring_submit(struct nt_ring *r);
bool nt_ring_reap(struct nt_ring *r, unsigned int ms, unsigned int *name,
		  int *res);
int nt_ring_run(struct nt_ring *r, int fd, __u32 op, int buf,
		const struct nvme_uring_cmd *cmd);
void nt_ring_land(struct nt_ring *r);
void nt_ring_quiet(struct nt_ring *r);

/*
 * A place in a namespace that holds bytes: blocks from the start of a zone or
 * from a multiple of 2048 blocks, the value of a key, what was sent last.
 */
bool nt_place_known(const struct nt_ns *ns);
__u32 nt_place_unit(const struct nt_ns *ns);
__u32 nt_place_max(struct nt_ns *ns);
void nt_place_reset(struct nt_ns *ns, unsigned int place);
void nt_place_cmd(const struct nt_ns *ns, unsigned int place, bool write,
		  __u32 len, struct nvme_uring_cmd *cmd);
void nt_place_fill(const struct nt_ns *ns, unsigned int place, void *data,
		   __u32 len, __u64 seed);

#endif /* NVME_TEST_RING_H */
