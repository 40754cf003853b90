/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Registered buffers for drivers that prepare them once, for many commands.
 */
#ifndef _LINUX_IO_URING_BUF_H
#define _LINUX_IO_URING_BUF_H

#include <linux/errno.h>
#include <linux/types.h>

struct bio_vec;
struct io_uring_cmd;
struct module;

/**
 * struct io_uring_buf_user - what a driver keeps with a registered buffer
 * @key: whose it is, for a driver of many devices
 * @owner: module of @release
 * @release: lets it go together with the buffer
 * @addr: where the buffer is in the memory of the program; set by io_uring
 * @next: of io_uring
 *
 * It stays until the buffer was unregistered or replaced in every ring that has
 * it, or these have ended, and no request uses the buffer any more.  @release
 * is then called once, before the memory is unpinned.  That is in process
 * context, with a uring_lock held.
 */
struct io_uring_buf_user {
	const void			*key;
	struct module			*owner;
	void				(*release)(struct io_uring_buf_user *user);
	u64				addr;
	struct io_uring_buf_user	*next;
};

#if defined(CONFIG_IO_URING)
struct io_uring_buf_user *
io_uring_cmd_buf_user(struct io_uring_cmd *ioucmd, u64 addr, u32 len,
		      const void *key, unsigned int issue_flags);
const struct bio_vec *io_uring_cmd_buf_bvecs(struct io_uring_cmd *ioucmd,
					     unsigned int *nr);
int io_uring_cmd_add_buf_user(struct io_uring_cmd *ioucmd,
			      struct io_uring_buf_user *user);
#else
static inline struct io_uring_buf_user *
io_uring_cmd_buf_user(struct io_uring_cmd *ioucmd, u64 addr, u32 len,
		      const void *key, unsigned int issue_flags)
{
	return NULL;
}

static inline const struct bio_vec *
io_uring_cmd_buf_bvecs(struct io_uring_cmd *ioucmd, unsigned int *nr)
{
	return NULL;
}

static inline int io_uring_cmd_add_buf_user(struct io_uring_cmd *ioucmd,
					    struct io_uring_buf_user *user)
{
	return -EOPNOTSUPP;
}
#endif

#endif /* _LINUX_IO_URING_BUF_H */
