// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz_ring.h"

#define CQE_F_SKIP	(1U << 5)
#define CQE_F_32	(1U << 15)

#ifdef __x86_64__
/*
 * A system call as a 32-bit program makes it, which this one may do as well:
 * what it points to is below 4 GiB.
 */
static long call32(long number, long a, long b, long c, long d, long e)
{
	long ret;

	/* the red zone below the stack pointer is not for a trap to use */
	asm volatile("int $0x80"
		     : "=a" (ret)
		     : "a" (number), "b" (a), "c" (b), "d" (c), "S" (d),
		       "D" (e)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#else
static long call32(long number, long a, long b, long c, long d, long e)
{
	return -EOPNOTSUPP;
}
#endif

/**
 * fr_call - a system call of five arguments
 * @compat: as a 32-bit program makes it
 * @number: of the call; io_uring's have the same for all programs
 *
 * Return: what it returns, or a negative errno.
 */
long fr_call(bool compat, long number, long a, long b, long c, long d, long e)
{
	long ret;

	if (compat)
		return call32(number == SYS_ioctl ? 54 : number, a, b, c, d, e);
	ret = syscall(number, a, b, c, d, e, 0);
	return ret < 0 ? -errno : ret;
}

/* Does the kernel run 32-bit programs? */
bool fr_has_compat(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(call32(20, 0, 0, 0, 0, 0) != getpid());
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

int fr_ioctl(bool compat, int fd, unsigned long op, void *arg)
{
	return fr_call(compat, SYS_ioctl, fd, op, (long)arg, 0, 0);
}

int fr_register(const struct fr_ring *r, unsigned int op, void *arg,
		unsigned int nr)
{
	return fr_call(r->compat, __NR_io_uring_register, r->fd, op, (long)arg,
		       nr, 0);
}

/* Make a ring; 0 or a negative errno. */
int fr_open(struct fr_ring *r, unsigned int entries, unsigned int setup,
	    bool compat)
{
	static __thread struct io_uring_params *p;
	size_t cqe = setup & IORING_SETUP_CQE32 ? 32 : 16;
	size_t sqe = setup & IORING_SETUP_SQE128 ? 128 : 64;
	unsigned int i, *array;
	int fd;

	memset(r, 0, sizeof(*r));
	r->fd = -1;
	if (!p)
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (p == MAP_FAILED) {
		p = NULL;
		return -ENOMEM;
	}
	memset(p, 0, sizeof(*p));
	p->flags = setup;
	p->sq_thread_idle = 1;
	fd = fr_call(compat, __NR_io_uring_setup, entries, (long)p, 0, 0, 0);
	if (fd < 0)
		return fd;
	r->rings_size = p->cq_off.cqes + p->cq_entries * cqe;
	if (r->rings_size < p->sq_off.array + p->sq_entries * 4)
		r->rings_size = p->sq_off.array + p->sq_entries * 4;
	r->sqes_size = p->sq_entries * sqe;
	r->rings = mmap(NULL, r->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, r->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		       fd, IORING_OFF_SQES);
	if (r->rings == MAP_FAILED || r->sqes == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	r->sq_head = (void *)(r->rings + p->sq_off.head);
	r->sq_tail = (void *)(r->rings + p->sq_off.tail);
	r->sq_flags = (void *)(r->rings + p->sq_off.flags);
	r->sq_mask = *(unsigned int *)(r->rings + p->sq_off.ring_mask);
	r->cq_head = (void *)(r->rings + p->cq_off.head);
	r->cq_tail = (void *)(r->rings + p->cq_off.tail);
	r->cq_mask = *(unsigned int *)(r->rings + p->cq_off.ring_mask);
	r->cqes = r->rings + p->cq_off.cqes;
	array = (void *)(r->rings + p->sq_off.array);
	for (i = 0; i < p->sq_entries; i++)
		array[i] = i;
	r->entries = p->sq_entries;
	r->setup = setup;
	r->owner = syscall(SYS_gettid);
	r->compat = compat;
	r->fd = fd;
	return 0;
}

void fr_close(struct fr_ring *r)
{
	if (r->fd < 0)
		return;
	munmap(r->rings, r->rings_size);
	munmap(r->sqes, r->sqes_size);
	close(r->fd);
	r->fd = -1;
}

/* Entries that are free. */
static unsigned int room(struct fr_ring *r)
{
	unsigned int head = __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);

	return r->entries - (r->tail - head);
}

/*
 * The next entry, of 128 bytes if it is @big and the ring has such; NULL if the
 * ring is full.
 */
struct io_uring_sqe *fr_put(struct fr_ring *r, bool big)
{
	size_t size = r->setup & IORING_SETUP_SQE128 ? 128 : 64;
	bool two = big && r->setup & FR_SQE_MIXED;
	unsigned int at = r->tail & r->sq_mask;
	struct io_uring_sqe *sqe;

	/* one of two entries does not go on at the start */
	if (two && at == r->entries - 1) {
		if (!room(r))
			return NULL;
		sqe = (void *)(r->sqes + at * size);
		memset(sqe, 0, size);
		sqe->opcode = IORING_OP_NOP;
		sqe->user_data = ~0ULL;
		r->tail++;
		at = 0;
	}
	if (room(r) < 1U + two)
		return NULL;
	sqe = (void *)(r->sqes + at * size);
	memset(sqe, 0, two ? 128 : size);
	r->tail += 1 + two;
	return sqe;
}

/* Submit all that was put: entries consumed, or a negative errno. */
int fr_submit(struct fr_ring *r)
{
	unsigned int head = __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
	unsigned int flags = 0, n = r->tail - head;

	__atomic_store_n(r->sq_tail, r->tail, __ATOMIC_RELEASE);
	if (r->setup & IORING_SETUP_SQPOLL) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!(__atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) &
		      IORING_SQ_NEED_WAKEUP))
			return n;
		flags = IORING_ENTER_SQ_WAKEUP;
	}
	if (!n)
		return 0;
	return fr_call(r->compat, __NR_io_uring_enter, r->fd, n, 0, flags, 0);
}

/* Let the kernel look for completions. */
void fr_look(struct fr_ring *r)
{
	unsigned int flags = IORING_ENTER_GETEVENTS, n = 0;
	unsigned int head = __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);

	if (r->setup & IORING_SETUP_SQPOLL) {
		if (__atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) &
		    IORING_SQ_NEED_WAKEUP && r->tail != head)
			flags |= IORING_ENTER_SQ_WAKEUP;
	} else {
		/* what could not be submitted before */
		n = r->tail - head;
	}
	fr_call(r->compat, __NR_io_uring_enter, r->fd, n, 0, flags, 0);
}

/* The next completion, if there is one. */
bool fr_reap(struct fr_ring *r, __u64 *user_data, int *res)
{
	size_t size = r->setup & IORING_SETUP_CQE32 ? 32 : 16;
	unsigned int head = *r->cq_head;
	struct io_uring_cqe *cqe;
	bool skip;

	do {
		if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
			return false;
		cqe = (void *)(r->cqes + (head & r->cq_mask) * size);
		*user_data = cqe->user_data;
		*res = cqe->res;
		skip = (r->setup & FR_CQE_MIXED && cqe->flags & CQE_F_SKIP) ||
			*user_data == ~0ULL;
		head++;
		if (r->setup & FR_CQE_MIXED && cqe->flags & CQE_F_32)
			head++;
		__atomic_store_n(r->cq_head, head, __ATOMIC_RELEASE);
	} while (skip);
	return true;
}
