/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rings by system calls, in every way that a kernel has to set one up, also
 * those of a 32-bit program, and without a thought for who else uses them.
 */
#ifndef NVME_TEST_FUZZ_RING_H
#define NVME_TEST_FUZZ_RING_H

#include <linux/io_uring.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>
#include <linux/types.h>

/* of newer kernels than the headers may be of */
#define FR_CQE_MIXED	(1U << 18)
#define FR_SQE_MIXED	(1U << 19)

#define FR_MAX_ENTRIES	64

/**
 * struct fr_ring - a ring
 * @fd: of the ring, or -1
 * @setup: IORING_SETUP_* flags
 * @owner: thread that made it
 * @compat: made by a system call of a 32-bit program
 * @entries: of the submission queue
 * @flying: commands without a completion
 */
struct fr_ring {
	int fd;
	unsigned int setup;
	pid_t owner;
	bool compat;
	unsigned int entries;
	unsigned int flying;
	/* private: */
	unsigned int *sq_head, *sq_tail, *sq_flags, *cq_head, *cq_tail;
	unsigned int sq_mask, cq_mask, tail;
	unsigned char *rings, *sqes, *cqes;
	size_t rings_size, sqes_size;
};

long fr_call(bool compat, long number, long a, long b, long c, long d, long e);
bool fr_has_compat(void);
int fr_ioctl(bool compat, int fd, unsigned long op, void *arg);

int fr_open(struct fr_ring *r, unsigned int entries, unsigned int setup,
	    bool compat);
void fr_close(struct fr_ring *r);
struct io_uring_sqe *fr_put(struct fr_ring *r, bool big);
int fr_submit(struct fr_ring *r);
void fr_look(struct fr_ring *r);
bool fr_reap(struct fr_ring *r, __u64 *user_data, int *res);
int fr_register(const struct fr_ring *r, unsigned int op, void *arg,
		unsigned int nr);

#endif /* NVME_TEST_FUZZ_RING_H */
