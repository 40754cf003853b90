/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nvme-ng: what the hooked driver refers to.  Includes nothing: a structure
 * that becomes visible to core.c changes the checksums of what it exports.
 */
#ifndef _NVME_NG_FOPS_H
#define _NVME_NG_FOPS_H

struct attribute_group;
struct file;
struct inode;
struct io_comp_batch;
struct io_uring_cmd;
struct nvme_ctrl;
struct nvme_id_ns;
struct nvme_id_ns_nvm;
struct nvme_ns;
struct seq_file;

extern const struct attribute_group *nvme_ng_ns_groups[];
extern const struct attribute_group *nvme_ng_head_groups[];

struct nvme_ns *nvme_ng_alloc_ns(int node);
unsigned int nvme_ng_formats_forgotten(void);
void nvme_ng_format_begin(struct nvme_ns *ns, unsigned int forgotten);
void nvme_ng_format_read(struct nvme_ns *ns, unsigned int forgotten,
			 const struct nvme_id_ns *id,
			 const struct nvme_id_ns_nvm *nvm);
void nvme_ng_format_gone(struct nvme_ns *ns);
unsigned int nvme_ng_admin_effects(unsigned char opcode);
void nvme_ng_effects_begin(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			   unsigned int effects);
void nvme_ng_effects_end(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			 unsigned int effects);
int nvme_ng_init(void);
void nvme_ng_exit(void);
void nvme_ng_release(struct file *file);
int nvme_ng_chr_release(struct inode *inode, struct file *file);
void nvme_ng_show_fdinfo(struct seq_file *m, struct file *file);
long nvme_ng_chr_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
int nvme_ng_chr_uring_cmd(struct io_uring_cmd *ioucmd,
			  unsigned int issue_flags);
int nvme_ng_chr_uring_cmd_iopoll(struct io_uring_cmd *ioucmd,
				 struct io_comp_batch *iob, unsigned int poll_flags);
long nvme_ng_dev_chr_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg);
int nvme_ng_dev_chr_uring_cmd(struct io_uring_cmd *ioucmd,
			      unsigned int issue_flags);
long nvme_ng_head_chr_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg);
int nvme_ng_head_chr_uring_cmd(struct io_uring_cmd *ioucmd,
			       unsigned int issue_flags);
int nvme_ng_head_chr_uring_cmd_iopoll(struct io_uring_cmd *ioucmd,
				      struct io_comp_batch *iob, unsigned int poll_flags);

#endif /* _NVME_NG_FOPS_H */
