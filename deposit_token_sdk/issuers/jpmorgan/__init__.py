"""J.P. Morgan's Global Payments API, paymentType BLOCKCHAIN: tokenised deposits between accounts, versions 2 and 1.

The bank pushes from a debtor's account to a creditor's and knows neither quotes nor invoices nor a page. So the price
is the checkout's own, the invoice is the merchant's own record (`record`), the debit starts under an entitlement that
the buyer has given (`collect`), and what proves a payment is that the bank, asked over mutual TLS, says so.
`issuer` has the verbs, `options` the settings, `access` the OAuth token; `v2` and `v1` are how the two versions write
and read a payment; `words` says what the bank's words mean; `callbacks` reads its webhooks.
"""
