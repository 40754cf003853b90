// SPDX-License-Identifier: GPL-2.0
/*
 * What drivers keep with registered buffers, such as a mapping for DMA.
 *
 * A buffer has a list of users, which only grows: whoever has a request that
 * uses the buffer may walk it without a lock.
 */
#include <linux/bvec.h>
#include <linux/err.h>
#include <linux/io_uring/buf.h>
#include <linux/io_uring_types.h>
#include <linux/module.h>

#include "io_uring.h"
#include "rsrc.h"

static noinline struct io_uring_buf_user *
io_lock_buf_user(struct io_uring_cmd *ioucmd, u64 addr, u32 len,
		 const void *key, unsigned int issue_flags)
{
	struct io_ring_ctx *ctx = cmd_to_io_kiocb(ioucmd)->ctx;
	struct io_uring_buf_user *user;

	io_ring_submit_lock(ctx, issue_flags);
	user = io_uring_cmd_buf_user(ioucmd, addr, len, key,
				     issue_flags & ~IO_URING_F_UNLOCKED);
	io_ring_submit_unlock(ctx, issue_flags);
	return user;
}

/**
 * io_uring_cmd_buf_user - find what a driver keeps with a command's buffer
 * @ioucmd: a command with IORING_URING_CMD_FIXED
 * @addr: where its data is in the memory of the program
 * @len: bytes of data
 * @key: the user
 * @issue_flags: as io_uring gave them
 *
 * Return: the user, which stays until the command completes; NULL if there is
 * none yet; ERR_PTR(-EFAULT) if the data is not in a buffer of the program.
 */
struct io_uring_buf_user *
io_uring_cmd_buf_user(struct io_uring_cmd *ioucmd, u64 addr, u32 len,
		      const void *key, unsigned int issue_flags)
{
	struct io_uring_buf_user *user;
	struct io_mapped_ubuf *imu;

	if (unlikely(issue_flags & IO_URING_F_UNLOCKED))
		return io_lock_buf_user(ioucmd, addr, len, key, issue_flags);
	imu = io_cmd_buf(cmd_to_io_kiocb(ioucmd));
	if (unlikely(!imu))
		return ERR_PTR(-EFAULT);
	/* what is before the buffer is far behind it, too */
	if (unlikely(len > io_buf_len(imu) ||
		     addr - imu->ubuf > io_buf_len(imu) - len))
		return ERR_PTR(-EFAULT);
	/* pairs with io_uring_cmd_add_buf_user() */
	for (user = smp_load_acquire(&imu->users); user; user = user->next)
		if (user->key == key)
			break;
	return user;
}
EXPORT_SYMBOL_GPL(io_uring_cmd_buf_user);

/**
 * io_uring_cmd_buf_bvecs - all memory of a command's buffer
 * @ioucmd: a command for which io_uring_cmd_buf_user() found a buffer
 * @nr: set to their number
 *
 * Return: pieces of memory, in order, until the command completes.
 */
const struct bio_vec *io_uring_cmd_buf_bvecs(struct io_uring_cmd *ioucmd,
					     unsigned int *nr)
{
	struct io_mapped_ubuf *imu = io_cmd_buf(cmd_to_io_kiocb(ioucmd));

	*nr = imu->nr_bvecs;
	return imu->bvec;
}
EXPORT_SYMBOL_GPL(io_uring_cmd_buf_bvecs);

/**
 * io_uring_cmd_add_buf_user - keep something with a command's buffer
 * @ioucmd: a command for which io_uring_cmd_buf_user() found a buffer
 * @user: of a key that the buffer does not have
 *
 * Return: 0; -EEXIST if another ring, which has the buffer too, was first with
 * that key; -ENODEV if the module is on its way out.  Otherwise than with 0,
 * @user is still the caller's.
 */
int io_uring_cmd_add_buf_user(struct io_uring_cmd *ioucmd,
			      struct io_uring_buf_user *user)
{
	struct io_mapped_ubuf *imu = io_cmd_buf(cmd_to_io_kiocb(ioucmd));
	struct io_uring_buf_user *first, *u;

	if (!try_module_get(user->owner))
		return -ENODEV;
	user->addr = imu->ubuf;
	/* pairs with the exchange, perhaps of another ring */
	first = smp_load_acquire(&imu->users);
	do {
		for (u = first; u; u = u->next)
			if (u->key == user->key)
				goto out_put;
		user->next = first;
	} while (!try_cmpxchg(&imu->users, &first, user));
	return 0;

out_put:
	module_put(user->owner);
	return -EEXIST;
}
EXPORT_SYMBOL_GPL(io_uring_cmd_add_buf_user);

/* The buffer is let go of. */
void io_release_buf_users(struct io_mapped_ubuf *imu)
{
	struct io_uring_buf_user *user = imu->users, *next;
	struct module *owner;

	for (; user; user = next) {
		next = user->next;
		owner = user->owner;
		user->release(user);
		module_put(owner);
	}
}
